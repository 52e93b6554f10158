// Preparing an augmentation: all that needs a network is settled here, once, so that what is stored is complete and pinned.
import type { Augmentation, Layer } from '../augment/augmentation.ts';
import { describeLayer, type LayerClaims, type LayerLimits } from '../augment/layer.ts';
import type { LayerSource } from '../augment/layer-source.ts';
import { parseLocation } from '../augment/location.ts';
import type { ContentStore } from '../content/store.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { formatPlatform } from '../oci/platform.ts';
import { formatReference, type Reference } from '../oci/reference.ts';
import type { Upstreams } from '../upstream/upstream.ts';
import { type Blobs, bytesBlob } from './blobs.ts';
import type { Tags } from './freshness.ts';
import type { ReadIncludes } from './includes.ts';
import { type Origins, originKey } from './origin.ts';
import type { Augmentations } from './pull.ts';

/** What somebody wants an image to become. */
export interface Wanted {
  readonly reference: Reference;
  readonly layers: readonly WantedLayer[];
  /** Images whose layers go on top, after `layers`. */
  readonly includes: readonly string[];
  /** All else of the augmentation. */
  readonly changes: Omit<Augmentation, 'layers'>;
}

export interface WantedLayer extends LayerClaims {
  readonly location: string;
  readonly platforms?: readonly string[] | undefined;
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
  readonly upstreams: Upstreams;
  readonly content: ContentStore;
  readonly tags: Tags;
  readonly blobs: Blobs;
  readonly augmentations: Augmentations;
  readonly readIncludes: ReadIncludes;
  readonly limits: LayerLimits;
}

/** Throws RegistryError for what cannot be had or augmented, InvalidLayer for a layer that is none. */
export type Prepare = (wanted: Wanted) => Promise<Prepared>;

interface DescribedLayer {
  readonly layer: Layer;
  readonly source: LayerSource;
  readonly bytes?: Uint8Array;
}

export function createPrepare(deps: PrepareDeps): Prepare {
  const { origins, upstreams, content, tags, blobs, augmentations, readIncludes, limits } = deps;

  async function describe(wanted: WantedLayer): Promise<DescribedLayer> {
    const location = parseLocation(wanted.location);
    const platforms = wanted.platforms && { platforms: [...wanted.platforms] };
    switch (location.kind) {
      case 'data': {
        const layer = await describeLayer(await bytesBlob(location.bytes).open(), wanted, limits);
        return {
          layer: { ...layer, ...platforms },
          source: { kind: 'stored', ...bytesOf(layer) },
          bytes: location.bytes,
        };
      }
      case 'url': {
        const layer = await describeLayer(await openUrl(location.url, wanted), wanted, limits);
        return {
          layer: { ...layer, ...platforms },
          source: { kind: 'url', ...bytesOf(layer), url: location.url.href },
        };
      }
      case 'blob': {
        const origin = origins.locate(location.registry, location.repository);
        const blob = await blobs.get(origin, location.digest);
        const layer = await describeLayer(await blob.open(), { ...wanted, gzipDigest: location.digest }, limits);
        const { registry, repository } = { registry: origin.upstream.name, repository: origin.repository };
        return { layer: { ...layer, ...platforms }, source: { kind: 'blob', ...bytesOf(layer), registry, repository } };
      }
    }
  }

  /** A layer at an address is fetched once: it is looked at, and later served, from the store. */
  async function openUrl(url: URL, claims: LayerClaims): Promise<ReadableStream<Uint8Array>> {
    const kept = claims.gzipDigest && (await content.open(claims.gzipDigest));
    if (kept) return kept;
    const { body } = await upstreams.openUrl(url);
    const expected = claims.gzipDigest && { digest: claims.gzipDigest, size: claims.gzipSize };
    const { digest } = await content.ingest(body, expected).done;
    const stored = await content.open(digest);
    if (!stored) throw new Error(`${digest} left the store between two looks`);
    return stored;
  }

  return async ({ reference, layers, includes, changes }) => {
    const origin = origins.locate(reference.registry, reference.repository);
    const sourceDigest = reference.digest ?? (await tags.resolve(origin, reference.tag ?? 'latest'));
    const included = (await Promise.all(includes.map(readIncludes))).flat();
    const described: readonly DescribedLayer[] = [...(await Promise.all(layers.map(describe))), ...included];
    const augmentation: Augmentation = { ...changes, layers: described.map(({ layer }) => layer) };
    const tag = reference.digest ? undefined : reference.tag;
    const sourceName = formatReference({ registry: undefined, repository: originKey(origin), tag, digest: undefined });
    const { root, images } = await augmentations.get({ origin, sourceName, sourceDigest, augmentation });
    if (included.length > 0)
      requireIncluded(
        included,
        images.map(({ platform }) => formatPlatform(platform)),
      );
    return {
      registry: origin.upstream.name,
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
function requireIncluded(layers: readonly DescribedLayer[], platforms: readonly string[]): void {
  const included = new Set(layers.flatMap(({ layer }) => layer.platforms ?? []));
  const lacking = platforms.filter(platform => !included.has(platform));
  if (lacking.length === 0) return;
  throw new RegistryError(
    'MANIFEST_UNKNOWN',
    `containerIncludes has no layers for ${lacking.join(', ')}; it has ${[...included].join(', ')}`,
  );
}

function bytesOf({ digest, size }: { readonly digest: Digest; readonly size: number }) {
  return { digest, size };
}
