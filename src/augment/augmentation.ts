// What an image gets on its way: a plain value, complete in itself, so that equal values give equal bytes anywhere.
import { z } from 'zod';
import { textMapSchema } from '../oci/config-fields.ts';
import { type Digest, digestOf, isDigest } from '../oci/digest.ts';

const digest = z.string().refine(isDigest, 'expected a digest');

/** A layer to put on top. Its bytes are never needed to rewrite a manifest: digest, size and diffID say all. */
export const layerSchema = z.object({
  digest,
  /** Bytes of the blob, as packed. */
  size: z.int().nonnegative(),
  /** Digest of the unpacked tar. */
  diffId: digest,
  compression: z.enum(['none', 'gzip', 'zstd']),
  /** Normalised platforms (formatPlatform) that get it; absent: all. */
  platforms: z.array(z.string()).readonly().optional(),
});

export const augmentationSchema = z.object({
  /** Normalised platforms to serve: one gives its image, several an index of exactly those, absent all. */
  platforms: z.array(z.string()).min(1).optional(),
  layers: z.array(layerSchema).readonly().default([]),
  /** Overrides by key in place, appends the rest. */
  env: textMapSchema.optional(),
  entrypoint: z.array(z.string()).optional(),
  cmd: z.array(z.string()).optional(),
  workingDir: z.string().optional(),
  user: z.string().optional(),
  labels: textMapSchema.optional(),
  /** As in image configs: "80/tcp". */
  exposedPorts: z.array(z.string()).optional(),
  /** Of each rewritten OCI manifest. */
  annotations: textMapSchema.optional(),
  /** What becomes of an index's attestation entries: they describe the source's digests, not ours. */
  attestations: z.enum(['drop', 'keep']).default('drop'),
});

export type Layer = z.infer<typeof layerSchema>;
export type Augmentation = z.infer<typeof augmentationSchema>;

/** One key for all equal augmentations, however their keys are ordered. The order of env, which decides bytes, counts. */
export function augmentationKey(augmentation: Augmentation): Digest {
  return digestOf(new TextEncoder().encode(JSON.stringify(augmentationSchema.parse(augmentation))));
}
