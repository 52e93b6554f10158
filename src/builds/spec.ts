// What is to be built: a plain value with everything that decides the result, so that equal specs are one build.
import { z } from 'zod';
import { augmentationSchema } from '../augment/augmentation.ts';
import { layerSourceSchema } from '../augment/layer-source.ts';
import { isDigest } from '../oci/digest.ts';

const digest = z.string().refine(isDigest, 'expected a digest');
const textMap = z.record(z.string(), z.string());

/** How the layers of the result are packed. */
export const compressionSchema = z.object({
  mode: z.enum(['gzip', 'zstd', 'estargz', 'uncompressed']),
  level: z.int().min(0).max(22).optional(),
  /** Whether layers of the base images are packed anew, too. */
  force: z.boolean().optional(),
});

/** Where the result is pushed, and how it is named there. */
const targetSchema = z.object({
  /** The full name: a hosted one such as `local/builds`, or `registry.example.com/team/app`. */
  repository: z.string(),
  /** Absent: the 16 hex characters of the build's id. */
  tag: z.string().optional(),
  /** In front of the id, where the tag is made of it: `<prefix>--<id>`. */
  tagPrefix: z.string().optional(),
});

/** Changes to an image, pinned: what a frozen image has beyond its source. */
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
  /** Normalised (formatPlatform), in the order asked for, at least one. One gives an image, several an index of exactly those. */
  platforms: z.array(z.string()).min(1).readonly(),
  /** What each base image in the Containerfile resolved to, by the name that is written there. One that could not be resolved is absent. */
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
  /** What the built image gets on top, before it is pushed under its name. */
  changes: changesSchema.optional(),
  target: targetSchema,
  /** In milliseconds; absent: the configured one. It decides no bytes, and is no part of the id. */
  timeoutMs: z.int().positive().optional(),
});

/** A copy of an image into another repository, with all its platforms or some, plain (a mirror) or changed (frozen). */
const copySpecSchema = z.object({
  kind: z.literal('copy'),
  /** `<registry>/<repository>`, and the tag where one was asked for. */
  source: z.object({ registry: z.string(), repository: z.string(), tag: z.string().optional(), digest }),
  platforms: z.array(z.string()).min(1).readonly().optional(),
  changes: changesSchema.optional(),
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
