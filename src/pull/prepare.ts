// Prepares an augmentation: everything that needs a network is resolved here, once, so that the stored result is complete and pinned.
import pLimit from 'p-limit';
import type { ImageOutcome } from '../augment/augment.ts';
import { type Augmentation, isChosen, type Step } from '../augment/augmentation.ts';
import { InvalidLayer, type Work } from '../augment/budget.ts';
import { layersFor } from '../augment/image.ts';
import type { LayerSource } from '../augment/layer-source.ts';
import type { MovedEntry } from '../augment/moved-layer.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { formatPlatform, normalizePlatform, type Platform, parsePlatform } from '../oci/platform.ts';
import type { Reference } from '../oci/reference.ts';
import type { Augmentations } from './derived-images.ts';
import type { DescribedLayer, DescribeWanted, WantedLayer } from './layers/describe-layer.ts';
import type { ReadIncludes } from './layers/includes.ts';
import { imageName, type Origins, resolveReference } from './origin.ts';

/** The requested augmentation. */
export interface Wanted {
  readonly reference: Reference;
  readonly layers: readonly WantedLayer[];
  /** Images whose layers are appended, after `layers`. */
  readonly includes: readonly string[];
  /** The rest of the augmentation. */
  readonly changes: Omit<Augmentation, 'layers'>;
  /** The steps of rules to apply before it, with the locations of their layers. */
  readonly ruleSteps?: readonly Step[] | undefined;
  readonly ruleLayerSources?: readonly LayerSource[] | undefined;
}

/** The pinned augmentation: it gives the same bytes at any time, given its sources. */
export interface Prepared {
  readonly registry: string;
  readonly repository: string;
  readonly tag: string | undefined;
  readonly sourceDigest: Digest;
  readonly targetDigest: Digest;
  /** The steps before the augmentation. */
  readonly ruleSteps: readonly Step[];
  readonly augmentation: Augmentation;
  /** Of all of it. */
  readonly layerSources: readonly LayerSource[];
  /** The bytes of the layers that came with the request: to be stored with the result. */
  readonly storedLayers: ReadonlyMap<Digest, Uint8Array>;
  /** Warnings for the requester, one sentence each. */
  readonly warnings: readonly string[];
  /** The layers that were moved to follow the links of an image. */
  readonly moved: readonly PlatformMoves[];
}

export interface PlatformMoves {
  readonly platform: string;
  /** The original layer, and the moved one. */
  readonly layer: Digest;
  readonly digest: Digest;
  /** The first moved entries, and how many there are. */
  readonly entries: readonly MovedEntry[];
  readonly count: number;
}

/** Everything independent of the source: complete, and pinned. */
export interface PreparedChanges extends Pick<Prepared, 'augmentation' | 'layerSources' | 'storedLayers'> {
  /** Throws MANIFEST_UNKNOWN for a platform of the image that an included image lacks. */
  requirePlatforms(platforms: readonly Platform[]): void;
}

/** Throws RegistryError for unavailable content, InvalidLayer for an invalid layer. */
export type DescribeChanges = (
  wanted: Pick<Wanted, 'layers' | 'includes' | 'changes'>,
  work?: Work,
) => Promise<PreparedChanges>;

/** Concurrently read layers and images of one request. */
const MAX_READS = 4;

export function createDescribeChanges({
  describeWanted,
  readIncludes,
}: {
  readonly describeWanted: DescribeWanted;
  readonly readIncludes: ReadIncludes;
}): DescribeChanges {
  async function describeAt(at: number, describe: () => Promise<DescribedLayer>): Promise<DescribedLayer> {
    try {
      return await describe();
    } catch (cause) {
      throw cause instanceof InvalidLayer ? new InvalidLayer(`layers[${at}]: ${cause.message}`, { cause }) : cause;
    }
  }

  /** Each once, however often it is used, and for which platforms. */
  async function describeAll(
    wanted: readonly WantedLayer[],
    work: Work | undefined,
  ): Promise<readonly DescribedLayer[]> {
    const limit = pLimit(MAX_READS);
    const looked = new Map<string, Promise<DescribedLayer>>();
    const described = wanted.map(async ({ platforms, ...layer }, at) => {
      const key = keyOf(layer);
      const looking = looked.get(key) ?? limit(() => describeAt(at, () => describeWanted(layer, work)));
      looked.set(key, looking);
      const { layer: found, ...rest } = await looking;
      return { ...rest, layer: { ...found, ...(platforms && { platforms }) } };
    });
    return Promise.all(described).finally(() => limit.clearQueue());
  }

  return async ({ layers, includes, changes }, work) => {
    const reading = pLimit(MAX_READS);
    const images = includes.map(image =>
      reading(async () => ({ image, layers: await readIncludes(image, work?.signal) })),
    );
    const included = await Promise.all(images).finally(() => reading.clearQueue());
    const described: readonly DescribedLayer[] = [
      ...(await describeAll(layers, work)),
      ...included.flatMap(each => each.layers),
    ];
    return {
      augmentation: { ...changes, layers: described.map(({ layer }) => layer) },
      layerSources: described.map(({ source }) => source),
      storedLayers: new Map(described.flatMap(({ layer, bytes }) => (bytes ? [[layer.digest, bytes] as const] : []))),
      requirePlatforms(platforms) {
        for (const each of included) requireIncluded(each, platforms);
      },
    };
  };
}

/** Throws RegistryError for content that is unavailable or cannot be augmented, InvalidLayer for an invalid layer. */
export type Prepare = (wanted: Wanted, work?: Work) => Promise<Prepared>;

export function createPrepare({
  origins,
  augmentations,
  describeChanges,
}: {
  readonly origins: Origins;
  readonly augmentations: Augmentations;
  readonly describeChanges: DescribeChanges;
}): Prepare {
  return async ({ reference, ruleSteps = [], ruleLayerSources = [], ...wanted }, work) => {
    const origin = origins.locate(reference.registry, reference.repository);
    const sourceDigest = await resolveReference(origin, reference, { signal: work?.signal });
    const { requirePlatforms, layerSources, ...changes } = await describeChanges(wanted, work);
    const tag = reference.digest ? undefined : reference.tag;
    const { root, images } = await augmentations.get(
      {
        origin,
        sourceName: imageName(origin, tag),
        sourceDigest,
        steps: [...ruleSteps, { augmentation: changes.augmentation }],
        layerSources: [...ruleLayerSources, ...layerSources],
        storedLayers: changes.storedLayers,
      },
      work?.signal,
    );
    const platforms = images.map(({ platform }) => platform);
    requirePlatforms(platforms);
    requireChanged(changes.augmentation, platforms);
    const { registry, repository } = origin;
    return {
      ...{ registry: registry.name, repository, tag, sourceDigest, targetDigest: root.digest, ruleSteps, ...changes },
      layerSources: [...ruleLayerSources, ...layerSources],
      warnings: [...new Set(images.flatMap(({ warnings }) => warnings))],
      moved: images.flatMap(listMoves),
    };
  };
}

/** Equal for layers that are the same according to their claims. */
function keyOf({ location, gzipDigest, gzipSize, tarDigest }: WantedLayer): string {
  return `${gzipDigest} ${gzipSize} ${tarDigest} ${location}`;
}

function listMoves({ platform, moved }: ImageOutcome): readonly PlatformMoves[] {
  return moved.map(({ source, entries, count }) => ({
    platform: formatPlatform(normalizePlatform(platform)),
    ...{ layer: source.inner.digest, digest: source.digest, entries, count },
  }));
}

/** Requested changes are made or refused: only rules, which match every name, leave anything but images unchanged. */
function requireChanged(augmentation: Augmentation, platforms: readonly Platform[]): void {
  const { platforms: _, attestations: __, layers, ...changes } = augmentation;
  const isAsked = layers.length > 0 || Object.values(changes).some(change => change !== undefined);
  if (isAsked && platforms.length === 0) {
    throw new RegistryError(
      'MANIFEST_INVALID',
      'it is not an image but an artifact, such as a chart: it cannot be augmented',
    );
  }
  if (layers.length === 0 || platforms.some(platform => layersFor({ layers }, platform).length > 0)) return;
  const has = platforms.map(platform => formatPlatform(normalizePlatform(platform))).join(', ');
  throw new RegistryError('MANIFEST_UNKNOWN', `none of the layers is for a platform of the image, which is for ${has}`);
}

interface Included {
  readonly image: string;
  readonly layers: readonly DescribedLayer[];
}

function requireIncluded({ image, layers }: Included, platforms: readonly Platform[]): void {
  const included = [...new Set(layers.flatMap(({ layer }) => layer.platforms ?? []))].map(parsePlatform);
  const lacking = platforms.filter(platform => !isChosen(platform, included));
  if (lacking.length === 0) return;
  const [missing, has] = [lacking, included].map(each => each.map(formatPlatform).join(', '));
  throw new RegistryError(
    'MANIFEST_UNKNOWN',
    `containerIncludes: ${image} has no layers for ${missing}; it is for ${has}`,
  );
}
