// What an image gets on its way, step by step, such as what rules give it and last what a token asks for. Each is for some platforms or all.
import { z } from 'zod';
import { type Digest, digestOf } from '../oci/digest.ts';
import { createNameTest } from '../oci/name-pattern.ts';
import { formatPlatform, normalizePlatform, type Platform } from '../oci/platform.ts';
import { type Augmentation, augmentationKey, augmentationSchema } from './augmentation.ts';

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
