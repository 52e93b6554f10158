// Preparing an augmentation: all that needs a network is settled here, once, so that what is stored is complete and pinned.
import type { Augmentation } from '../augment/augmentation.ts';
import { isChosen } from '../augment/choice.ts';
import { InvalidLayer } from '../augment/layer.ts';
import type { LayerSource } from '../augment/layer-source.ts';
import type { Step } from '../augment/steps.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { formatPlatform, type Platform, parsePlatform } from '../oci/platform.ts';
import type { Reference } from '../oci/reference.ts';
import type { ReadIncludes } from './layers/includes.ts';
import type { DescribedLayer, DescribeWanted, WantedLayer } from './layers/wanted-layer.ts';
import { imageName, type Origins, resolveReference } from './origin.ts';
import type { Augmentations } from './pull.ts';

/** What somebody wants an image to become. */
export interface Wanted {
  readonly reference: Reference;
  readonly layers: readonly WantedLayer[];
  /** Images whose layers go on top, after `layers`. */
  readonly includes: readonly string[];
  /** All else of the augmentation. */
  readonly changes: Omit<Augmentation, 'layers'>;
  /** What rules make of it before that, with where the bytes of their layers are. */
  readonly ruleSteps?: readonly Step[] | undefined;
  readonly ruleLayerSources?: readonly LayerSource[] | undefined;
}

/** The same, pinned: it needs nothing but its sources to give the same bytes at any time. */
export interface Prepared {
  readonly registry: string;
  readonly repository: string;
  readonly tag: string | undefined;
  readonly sourceDigest: Digest;
  readonly targetDigest: Digest;
  /** What comes before the augmentation. */
  readonly ruleSteps: readonly Step[];
  readonly augmentation: Augmentation;
  /** Of all of it. */
  readonly layerSources: readonly LayerSource[];
  /** The bytes of the layers that came with the request: whoever keeps the result keeps them too. */
  readonly storedLayers: ReadonlyMap<Digest, Uint8Array>;
}

/** What does not depend on the source: complete, and pinned. */
export interface PreparedChanges extends Pick<Prepared, 'augmentation' | 'layerSources' | 'storedLayers'> {
  /** Throws MANIFEST_UNKNOWN for an image that would stay without the included layers, because the included image lacks its platform. */
  requirePlatforms(platforms: readonly Platform[]): void;
}

export interface DescribeChangesDeps {
  readonly describeWanted: DescribeWanted;
  readonly readIncludes: ReadIncludes;
}

/** Throws RegistryError for what cannot be had, InvalidLayer for a layer that is none. */
export type DescribeChanges = (wanted: Pick<Wanted, 'layers' | 'includes' | 'changes'>) => Promise<PreparedChanges>;

export function createDescribeChanges({ describeWanted, readIncludes }: DescribeChangesDeps): DescribeChanges {
  async function describeAt(wanted: WantedLayer, at: number): Promise<DescribedLayer> {
    try {
      return await describeWanted(wanted);
    } catch (cause) {
      throw cause instanceof InvalidLayer ? new InvalidLayer(`layers[${at}]: ${cause.message}`, { cause }) : cause;
    }
  }

  return async ({ layers, includes, changes }) => {
    const included = (await Promise.all(includes.map(readIncludes))).flat();
    const described: readonly DescribedLayer[] = [...(await Promise.all(layers.map(describeAt))), ...included];
    return {
      augmentation: { ...changes, layers: described.map(({ layer }) => layer) },
      layerSources: described.map(({ source }) => source),
      storedLayers: new Map(described.flatMap(({ layer, bytes }) => (bytes ? [[layer.digest, bytes] as const] : []))),
      requirePlatforms: platforms => (included.length > 0 ? requireIncluded(included, platforms) : undefined),
    };
  };
}

export interface PrepareDeps {
  readonly origins: Origins;
  readonly augmentations: Augmentations;
  readonly describeChanges: DescribeChanges;
}

/** Throws RegistryError for what cannot be had or augmented, InvalidLayer for a layer that is none. */
export type Prepare = (wanted: Wanted) => Promise<Prepared>;

export function createPrepare({ origins, augmentations, describeChanges }: PrepareDeps): Prepare {
  return async ({ reference, ruleSteps = [], ruleLayerSources = [], ...wanted }) => {
    const origin = origins.locate(reference.registry, reference.repository);
    const sourceDigest = await resolveReference(origin, reference);
    const { requirePlatforms, layerSources, ...changes } = await describeChanges(wanted);
    const tag = reference.digest ? undefined : reference.tag;
    const { root, images } = await augmentations.get({
      origin,
      sourceName: imageName(origin, tag),
      sourceDigest,
      steps: [...ruleSteps, { augmentation: changes.augmentation }],
    });
    requirePlatforms(images.map(({ platform }) => platform));
    const { registry, repository } = origin;
    return {
      ...{ registry: registry.name, repository, tag, sourceDigest, targetDigest: root.digest, ruleSteps, ...changes },
      layerSources: [...ruleLayerSources, ...layerSources],
    };
  };
}

function requireIncluded(layers: readonly DescribedLayer[], platforms: readonly Platform[]): void {
  const included = [...new Set(layers.flatMap(({ layer }) => layer.platforms ?? []))].map(parsePlatform);
  const lacking = platforms.filter(platform => !isChosen(platform, included));
  if (lacking.length === 0) return;
  const [missing, has] = [lacking, included].map(each => each.map(formatPlatform).join(', '));
  throw new RegistryError('MANIFEST_UNKNOWN', `containerIncludes has no layers for ${missing}; it has ${has}`);
}
