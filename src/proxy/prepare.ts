// Preparing an augmentation: all that needs a network is settled here, once, so that what is stored is complete and pinned.
import type { Augmentation } from '../augment/augmentation.ts';
import { isChosen } from '../augment/choice.ts';
import { InvalidLayer } from '../augment/layer.ts';
import type { LayerSource } from '../augment/layer-source.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { formatPlatform, type Platform, parsePlatform } from '../oci/platform.ts';
import type { Reference } from '../oci/reference.ts';
import type { ReadIncludes } from './includes.ts';
import { imageName, type Origins, resolveReference } from './origin.ts';
import type { Augmentations } from './pull.ts';
import type { DescribedLayer, DescribeWanted, WantedLayer } from './wanted-layer.ts';

/** What somebody wants an image to become. */
export interface Wanted {
  readonly reference: Reference;
  readonly layers: readonly WantedLayer[];
  /** Images whose layers go on top, after `layers`. */
  readonly includes: readonly string[];
  /** All else of the augmentation. */
  readonly changes: Omit<Augmentation, 'layers'>;
}

/** The same, pinned: it needs nothing but its sources to give the same bytes at any time. */
export interface Prepared {
  readonly registry: string;
  readonly repository: string;
  readonly tag: string | undefined;
  readonly sourceDigest: Digest;
  readonly targetDigest: Digest;
  readonly augmentation: Augmentation;
  readonly layerSources: readonly LayerSource[];
  /** The bytes of the layers that came with the request: whoever keeps the result keeps them too. */
  readonly storedLayers: ReadonlyMap<Digest, Uint8Array>;
}

export interface PrepareDeps {
  readonly origins: Origins;
  readonly augmentations: Augmentations;
  readonly describeWanted: DescribeWanted;
  readonly readIncludes: ReadIncludes;
}

/** Throws RegistryError for what cannot be had or augmented, InvalidLayer for a layer that is none. */
export type Prepare = (wanted: Wanted) => Promise<Prepared>;

export function createPrepare(deps: PrepareDeps): Prepare {
  const { origins, augmentations, describeWanted, readIncludes } = deps;

  async function describeAt(wanted: WantedLayer, at: number): Promise<DescribedLayer> {
    try {
      return await describeWanted(wanted);
    } catch (cause) {
      throw cause instanceof InvalidLayer ? new InvalidLayer(`layers[${at}]: ${cause.message}`, { cause }) : cause;
    }
  }

  return async ({ reference, layers, includes, changes }) => {
    const origin = origins.locate(reference.registry, reference.repository);
    const sourceDigest = await resolveReference(origin, reference);
    const included = (await Promise.all(includes.map(readIncludes))).flat();
    const described: readonly DescribedLayer[] = [...(await Promise.all(layers.map(describeAt))), ...included];
    const augmentation: Augmentation = { ...changes, layers: described.map(({ layer }) => layer) };
    const tag = reference.digest ? undefined : reference.tag;
    const pull = { origin, sourceName: imageName(origin, tag), sourceDigest, augmentation };
    const { root, images } = await augmentations.get(pull);
    if (included.length > 0) requireIncluded(included, images);
    return {
      registry: origin.registry.name,
      repository: origin.repository,
      tag,
      sourceDigest,
      targetDigest: root.digest,
      augmentation,
      layerSources: described.map(({ source }) => source),
      storedLayers: new Map(described.flatMap(({ layer, bytes }) => (bytes ? [[layer.digest, bytes] as const] : []))),
    };
  };
}

/** An image that would stay without the included layers, because the included image lacks its platform, is not served as if it had them. */
function requireIncluded(layers: readonly DescribedLayer[], images: readonly { readonly platform: Platform }[]): void {
  const included = [...new Set(layers.flatMap(({ layer }) => layer.platforms ?? []))].map(parsePlatform);
  const lacking = images.map(({ platform }) => platform).filter(platform => !isChosen(platform, included));
  if (lacking.length === 0) return;
  const [missing, has] = [lacking, included].map(platforms => platforms.map(formatPlatform).join(', '));
  throw new RegistryError('MANIFEST_UNKNOWN', `containerIncludes has no layers for ${missing}; it has ${has}`);
}
