// What an image gets on its way: augmentations, the steps that bring them, and the platforms that they select. Plain values, complete in
// themselves, so that equal values give equal bytes anywhere.
import { z } from 'zod';
import { textMapSchema } from '../oci/config-fields.ts';
import { type Digest, digestOf, isDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { createNameTest } from '../oci/name-pattern.ts';
import { formatPlatform, isSamePlatform, normalizePlatform, type Platform, parsePlatforms } from '../oci/platform.ts';

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

/** One of the steps by which an image gets its changes, such as a rule's, and last a token's. Each is for some platforms or all. */
export const stepSchema = z.object({
  /** Of the rule that it is from; absent for what a token asks for. It changes no image, only what is told of it. */
  rule: z.string().optional(),
  /** Globs of normalised platforms, such as `linux/*`; one without a variant is for all variants. Absent: all. */
  platforms: z.array(z.string()).min(1).readonly().optional(),
  augmentation: augmentationSchema,
});

export const stepsSchema = z.array(stepSchema).min(1).readonly();

export type Step = z.infer<typeof stepSchema>;
export type Steps = z.infer<typeof stepsSchema>;

/** What is decided for all platforms at once. */
export type Choice = Pick<Augmentation, 'platforms' | 'attestations'>;

/** Of the last step that chooses platforms, and of the last step. */
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
 * All that the steps make of an image for a platform, as one: layers one after the other; in maps a later step wins by key; of all else the
 * last that is given. No step sees what another made: an entrypoint that is replaced is always the source's.
 */
export function augmentationFor(steps: Steps, platform: Platform): Augmentation {
  const augmentations = stepsFor(steps, platform).map(({ augmentation }) => augmentation);
  return augmentations.reduce<Augmentation>(merge, { ...choiceOf(steps), layers: [] });
}

/** A field that augmentations get later has its place here too, or it does not compile. */
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

/** One key for all equal steps, as augmentationKey is for augmentations; `keyOf` may remember keys. */
export function stepsKey(steps: Steps, keyOf: (augmentation: Augmentation) => string = augmentationKey): Digest {
  const parts = steps.map(({ rule, platforms, augmentation }) => [rule, platforms, keyOf(augmentation)]);
  return digestOf(new TextEncoder().encode(JSON.stringify(parts)));
}

/** The platforms asked for, each once; undefined when all are. */
export function chosenPlatforms({ platforms }: Pick<Choice, 'platforms'>): readonly Platform[] | undefined {
  return platforms && parsePlatforms(platforms.join(','));
}

export function isChosen(platform: Platform, chosen: readonly Platform[] | undefined): boolean {
  return chosen?.some(wanted => isSamePlatform(wanted, platform)) ?? true;
}

/** Throws MANIFEST_UNKNOWN, naming what is missing and what there is, unless all chosen ones are available. */
export function checkAvailable(chosen: readonly Platform[] | undefined, available: readonly Platform[]): void {
  const lacking = (chosen ?? []).filter(platform => !isChosen(platform, available));
  if (lacking.length === 0) return;
  const has = list(available) || 'no image at all';
  throw new RegistryError('MANIFEST_UNKNOWN', `no image for ${list(lacking)}; there is ${has}`);
}

function list(platforms: readonly Platform[]): string {
  return [...new Set(platforms.map(platform => formatPlatform(normalizePlatform(platform))))].join(', ');
}
