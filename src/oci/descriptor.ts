// Descriptors: a pointer to bytes. image-spec descriptor.md.
import { z } from 'zod';
import { listSchema, mapSchema } from './bounded.ts';
import { type Digest, isDigest } from './digest.ts';
import { isLayerType } from './media-type.ts';
import type { Platform } from './platform.ts';

const digestSchema = z.string().refine(isDigest, 'expected sha256:<64 hex> or sha512:<128 hex>');

/** One that lacks a part names no platform: what it points to does. */
const platformSchema = z
  .object({ os: z.string().nullish(), architecture: z.string().nullish(), variant: z.string().nullish() })
  .nullish()
  .transform(platform => {
    const { os, architecture, variant } = platform ?? {};
    return os && architecture ? { os, architecture, ...(variant && { variant }) } : undefined;
  });

/**
 * Looks at a descriptor in foreign JSON. Null counts as absent, and a size that is absent as 0, as they do to clients written in Go. What
 * it drops stays in `raw`: never encode its result.
 */
export const descriptorSchema = z.object({
  mediaType: z
    .string()
    .max(255)
    .nullish()
    .transform(text => text ?? ''),
  digest: digestSchema,
  size: z
    .int()
    .nonnegative()
    .nullish()
    .transform(size => size ?? 0),
  platform: platformSchema,
  artifactType: z
    .string()
    .nullish()
    .transform(text => text ?? undefined),
  annotations: mapSchema(
    z
      .string()
      .nullish()
      .transform(text => text ?? ''),
  ).nullish(),
  urls: listSchema(z.string()).nullish(),
});

/** As parsed; `mediaType` is empty where the document has none, and `size` is in bytes. */
export interface Descriptor extends ContentDescriptor {
  readonly platform?: Platform | undefined;
  readonly artifactType?: string | undefined;
  readonly annotations?: Readonly<Record<string, string>> | null | undefined;
  readonly urls?: readonly string[] | null | undefined;
}

/** The least that names bytes. */
export interface ContentDescriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
}

const BUILD_CACHE_CONFIG = 'application/vnd.buildkit.cacheconfig.v0';

/**
 * The entries of an index that may be manifests. One of a build's cache lists its layers, and may have very many: no registry has these as
 * manifests. In any other index an entry may be an image, whatever it says.
 */
export function findManifests(entries: readonly Descriptor[]): readonly Descriptor[] {
  const isCache = entries.some(isCacheConfig) && entries.every(({ platform }) => !platform);
  return isCache ? entries.filter(entry => !isCacheConfig(entry) && !isLayerType(entry.mediaType)) : entries;
}

function isCacheConfig({ mediaType }: Descriptor): boolean {
  return mediaType === BUILD_CACHE_CONFIG;
}
