// Descriptors: a pointer to bytes. image-spec descriptor.md.
import { z } from 'zod';
import { type Digest, isDigest } from './digest.ts';

const digestSchema = z.string().refine(isDigest, 'expected sha256:<64 hex> or sha512:<128 hex>');

const platformSchema = z.object({
  os: z.string(),
  architecture: z.string(),
  variant: z.string().optional(),
});

/** Looks at a descriptor in foreign JSON. What it drops stays in `raw`: never encode its result. */
export const descriptorSchema = z.object({
  mediaType: z.string().max(255).default(''),
  digest: digestSchema,
  size: z.int().nonnegative(),
  platform: platformSchema.optional(),
  artifactType: z.string().optional(),
  annotations: z.record(z.string(), z.string()).nullish(),
  urls: z.array(z.string()).nullish(),
});

/** As parsed; `mediaType` is empty where the document has none, and `size` is in bytes. */
export type Descriptor = z.infer<typeof descriptorSchema>;

/** The least that names bytes. */
export interface ContentDescriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
}
