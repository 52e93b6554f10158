// The spec of a build: a plain value with everything that determines the result, so that equal specs are one build.
import { z } from 'zod';
import { augmentationSchema } from '../augment/augmentation.ts';
import { layerSourceSchema } from '../augment/layer-source.ts';
import { isDigest } from '../oci/digest.ts';

const digest = z.string().refine(isDigest, 'expected a digest');
const textMap = z.record(z.string(), z.string());

/** Absent: an image for docker and OCI. `sif`: a file for Singularity and Apptainer, of one platform, as an artifact. */
const format = z.literal('sif').optional();

/** The compression of the result's layers. */
export const compressionSchema = z.object({
  mode: z.enum(['gzip', 'zstd', 'estargz', 'uncompressed']),
  level: z.int().min(0).max(22).optional(),
  /** Whether layers of the base images are recompressed as well. */
  force: z.boolean().optional(),
});

/** The repository and tag that the result is pushed to. */
const targetSchema = z.object({
  /** The full name: a hosted one such as `local/builds`, or `registry.example.com/team/app`. */
  repository: z.string(),
  /** Absent: the 16 hex characters of the build's id. */
  tag: z.string().optional(),
  /** Prepended to a tag that is derived from the id: `<prefix>--<id>`. */
  tagPrefix: z.string().optional(),
});

/** Pinned changes to an image, which make a frozen image from its source. */
const changesSchema = z.object({
  augmentation: augmentationSchema,
  layerSources: z.array(layerSourceSchema).readonly(),
});

const containerFileSpecSchema = z.object({
  kind: z.literal('containerfile'),
  /** The text of the Containerfile. */
  containerFile: z.string(),
  /** The canonical tar of the build context, in the builds' own content store; absent: an empty context. */
  context: z.object({ digest, size: z.int().nonnegative() }).optional(),
  /** Normalised (formatPlatform), in the requested order, at least one. One gives an image, several an index of exactly those. */
  platforms: z.array(z.string()).min(1).readonly(),
  /** The digest of each base image, by its name in the Containerfile. One that could not be resolved is absent. */
  bases: z.record(z.string(), digest),
  args: textMap.default({}),
  /** The target stage; absent: the last. */
  stage: z.string().optional(),
  labels: textMap.default({}),
  /** Ids of configured secrets; their values are in no record. */
  secrets: z.array(z.string()).readonly().default([]),
  /** Ids of configured agent sockets or keys. */
  ssh: z.array(z.string()).readonly().default([]),
  network: z.enum(['default', 'none', 'host']).default('default'),
  attestations: z
    .object({ sbom: z.boolean().default(false), provenance: z.enum(['none', 'min', 'max']).default('none') })
    .prefault({}),
  compression: compressionSchema.optional(),
  /** The full name of the repository of the layer cache. */
  cacheRepository: z.string().optional(),
  /** Applied to the built image before it is pushed under its name. */
  changes: changesSchema.optional(),
  format,
  target: targetSchema,
  /** In milliseconds; absent: the configured one. Not part of the id, as it does not affect the result. */
  timeoutMs: z.int().positive().optional(),
});

/** A copy of an image to another repository, with all its platforms or some, unchanged (a mirror) or changed (frozen). */
const copySpecSchema = z.object({
  kind: z.literal('copy'),
  /** The registry and repository, and the tag if one was requested. */
  source: z.object({ registry: z.string(), repository: z.string(), tag: z.string().optional(), digest }),
  platforms: z.array(z.string()).min(1).readonly().optional(),
  changes: changesSchema.optional(),
  format,
  target: targetSchema,
  timeoutMs: z.int().positive().optional(),
});

export const specSchema = z.discriminatedUnion('kind', [containerFileSpecSchema, copySpecSchema]);

export type Compression = z.infer<typeof compressionSchema>;
export type Changes = z.infer<typeof changesSchema>;
export type Target = z.infer<typeof targetSchema>;
export type ContainerFileSpec = z.infer<typeof containerFileSpecSchema>;
export type CopySpec = z.infer<typeof copySpecSchema>;
export type Spec = z.infer<typeof specSchema>;
