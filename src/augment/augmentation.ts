// Augmentations, the steps that contribute them, and the platforms they apply to. Plain, self-contained values: equal values give equal
// bytes everywhere.
import { z } from 'zod';
import { textMapSchema } from '../oci/config-fields.ts';
import { type Digest, digestOf, isDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { createNameTest } from '../oci/name-pattern.ts';
import { formatPlatform, isSamePlatform, normalizePlatform, type Platform, parsePlatforms } from '../oci/platform.ts';

const digest = z.string().refine(isDigest, 'expected a digest');

/** A layer to append. Its bytes are not needed to rewrite a manifest: digest, size and diffID are enough. */
export const layerSchema = z.object({
  digest,
  /** Size of the blob, compressed. */
  size: z.int().nonnegative(),
  /** Digest of the unpacked tar. */
  diffId: digest,
  compression: z.enum(['none', 'gzip', 'zstd']),
  /** Normalised platforms (formatPlatform) that receive it; absent: all. */
  platforms: z.array(z.string()).readonly().optional(),
});

export const augmentationSchema = z.object({
  /** Normalised platforms to serve: one selects its image, several an index of exactly those, absent all. */
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
  /** Added to each rewritten OCI manifest. */
  annotations: textMapSchema.optional(),
  /** What to do with an index's attestation entries, which describe the source's digests, not ours. */
  attestations: z.enum(['drop', 'keep']).default('drop'),
});

export type Layer = z.infer<typeof layerSchema>;
export type Augmentation = z.infer<typeof augmentationSchema>;

/**
 * A canonical key: equal augmentations have equal keys whatever the order of their properties. The order of env counts, since it changes
 * the bytes.
 */
export function augmentationKey(augmentation: Augmentation): Digest {
  return digestOf(new TextEncoder().encode(JSON.stringify(augmentationSchema.parse(augmentation))));
}

/** One of the steps that change an image, such as a rule's, with a token's last. Each applies to some platforms or to all. */
export const stepSchema = z.object({
  /** The rule it comes from; absent for a token's. Has no effect on the image, only on how the change is reported. */
  rule: z.string().optional(),
  /** Globs of normalised platforms, such as `linux/*`; one without a variant matches all variants. Absent: all. */
  platforms: z.array(z.string()).min(1).readonly().optional(),
  augmentation: augmentationSchema,
});

export const stepsSchema = z.array(stepSchema).min(1).readonly();

export type Step = z.infer<typeof stepSchema>;
export type Steps = z.infer<typeof stepsSchema>;

/** Settings decided once for all platforms. */
export type Choice = Pick<Augmentation, 'platforms' | 'attestations'>;

/** From the last step that selects platforms, and the last step. */
export function choiceOf(steps: Steps): Choice {
  const platforms = steps.findLast(({ augmentation }) => augmentation.platforms)?.augmentation.platforms;
  return { platforms, attestations: steps.at(-1)?.augmentation.attestations ?? 'drop' };
}

export function stepsFor(steps: Steps, platform: Platform): readonly Step[] {
  const { os, architecture, variant } = normalizePlatform(platform);
  const names = [formatPlatform({ os, architecture }), formatPlatform({ os, architecture, variant })];
  return steps.filter(({ platforms }) => !platforms || names.some(createNameTest(platforms)));
}

/**
 * All steps for a platform merged into one augmentation: layers are concatenated, maps are merged by key with later steps winning, and
 * everything else comes from the last step that sets it. No step sees the result of another: the entrypoint being replaced is always the
 * source's.
 */
export function augmentationFor(steps: Steps, platform: Platform): Augmentation {
  const augmentations = stepsFor(steps, platform).map(({ augmentation }) => augmentation);
  return augmentations.reduce<Augmentation>(merge, { ...choiceOf(steps), layers: [] });
}

/** Type-checked for completeness: a new augmentation field must be handled here. */
type Merged = { [Field in keyof Required<Augmentation>]: Augmentation[Field] };

function merge(earlier: Augmentation, later: Augmentation): Merged {
  const { platforms, attestations } = earlier;
  return {
    ...{ platforms, attestations },
    layers: [...earlier.layers, ...later.layers],
    env: mergeMaps(earlier.env, later.env),
    entrypoint: later.entrypoint ?? earlier.entrypoint,
    cmd: later.cmd ?? earlier.cmd,
    workingDir: later.workingDir ?? earlier.workingDir,
    user: later.user ?? earlier.user,
    labels: mergeMaps(earlier.labels, later.labels),
    exposedPorts: mergeLists(earlier.exposedPorts, later.exposedPorts),
    annotations: mergeMaps(earlier.annotations, later.annotations),
  };
}

type TextMap = Augmentation['labels'];

function mergeMaps(earlier: TextMap, later: TextMap): TextMap {
  return later ? { ...earlier, ...later } : earlier;
}

type List = Augmentation['exposedPorts'];

function mergeLists(earlier: List, later: List): List {
  return earlier && later ? [...new Set([...earlier, ...later])] : (later ?? earlier);
}

/** A canonical key for steps, as augmentationKey is for augmentations; `keyOf` may cache keys. */
export function stepsKey(steps: Steps, keyOf: (augmentation: Augmentation) => string = augmentationKey): Digest {
  const parts = steps.map(({ rule, platforms, augmentation }) => [rule, platforms, keyOf(augmentation)]);
  return digestOf(new TextEncoder().encode(JSON.stringify(parts)));
}

/** The requested platforms without duplicates; undefined when all are requested. */
export function chosenPlatforms({ platforms }: Pick<Choice, 'platforms'>): readonly Platform[] | undefined {
  return platforms && parsePlatforms(platforms.join(','));
}

export function isChosen(platform: Platform, chosen: readonly Platform[] | undefined): boolean {
  return chosen?.some(wanted => isSamePlatform(wanted, platform)) ?? true;
}

/** Throws MANIFEST_UNKNOWN, naming the missing and the available platforms, unless all selected ones are available. */
export function checkAvailable(chosen: readonly Platform[] | undefined, available: readonly Platform[]): void {
  const lacking = (chosen ?? []).filter(platform => !isChosen(platform, available));
  if (lacking.length === 0) return;
  const has = list(available) || 'no image at all';
  throw new RegistryError('MANIFEST_UNKNOWN', `no image for ${list(lacking)}; there is ${has}`);
}

function list(platforms: readonly Platform[]): string {
  return [...new Set(platforms.map(platform => formatPlatform(normalizePlatform(platform))))].join(', ');
}

/** The layers that every image gets, whatever its platform. */
export function layersOfAll(steps: Steps): readonly Layer[] {
  const ofAll = steps.filter(({ platforms }) => platforms === undefined);
  return ofAll.flatMap(({ augmentation }) => augmentation.layers.filter(({ platforms }) => platforms === undefined));
}
