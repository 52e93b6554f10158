// A layer that somebody wants on top of an image: its bytes are looked at once, and from then on known by digest.
import type { Layer } from '../../augment/augmentation.ts';
import { describeLayer, InvalidLayer, type LayerClaims, type LayerLimits } from '../../augment/layer.ts';
import type { LayerSource } from '../../augment/layer-source.ts';
import { type LayerLocation, parseLocation } from '../../augment/location.ts';
import type { ContentStore } from '../../content/store.ts';
import { encodedFault } from '../../upstream/response.ts';
import type { Upstreams } from '../../upstream/upstream.ts';
import { bytesBlob } from '../kept/blobs.ts';
import type { Origins } from '../origin.ts';
import { createLayerUrls } from './layer-urls.ts';

export interface WantedLayer extends LayerClaims {
  readonly location: string;
  /** Normalised; absent: all platforms get it. */
  readonly platforms?: readonly string[] | undefined;
}

export interface DescribedLayer {
  readonly layer: Layer;
  readonly source: LayerSource;
  /** Of a layer that came with the request. */
  readonly bytes?: Uint8Array;
}

export interface DescribeDeps {
  readonly origins: Origins;
  readonly upstreams: Upstreams;
  readonly content: ContentStore;
  readonly limits: LayerLimits;
}

/** Throws InvalidLayer for a layer that is none, or is not what was claimed, and RegistryError for one that cannot be had. */
export type DescribeWanted = (wanted: WantedLayer) => Promise<DescribedLayer>;

export function createDescribe({ origins, upstreams, content, limits }: DescribeDeps): DescribeWanted {
  const openUrl = createLayerUrls({ upstreams, content, limits });

  async function describe(location: LayerLocation, claims: LayerClaims): Promise<DescribedLayer> {
    switch (location.kind) {
      case 'data': {
        const bytes = location.read();
        const layer = await describeLayer(await bytesBlob(bytes).open(), claims, limits);
        return { layer, source: { kind: 'stored', ...bytesOf(layer) }, bytes };
      }
      case 'url': {
        const { body, coding } = await openUrl(location.url, claims);
        const layer = await describeLayer(body, claims, limits).catch(error => {
          throw coding && error instanceof InvalidLayer ? encoded(error, coding) : error;
        });
        return { layer, source: { kind: 'url', ...bytesOf(layer), url: location.url.href } };
      }
      case 'blob': {
        const named = namedClaims(location, claims);
        const { registry, repository } = origins.locate(location.registry, location.repository);
        const blob = await registry.getBlob(repository, location.digest);
        const layer = await describeLayer(await blob.open(), named, limits);
        return { layer, source: { kind: 'blob', ...bytesOf(layer), registry: registry.name, repository } };
      }
    }
  }

  return async ({ location, platforms, ...claims }) => {
    const { layer, ...rest } = await describe(parseLocation(location), claims);
    return { ...rest, layer: { ...layer, ...(platforms && { platforms }) } };
  };
}

/** What its server has packed once more on the way is no layer. */
function encoded(cause: InvalidLayer, coding: string): InvalidLayer {
  return new InvalidLayer(`${cause.message}; ${encodedFault(coding)}`, { cause });
}

/** The location of a blob is a claim, too. */
function namedClaims({ digest }: LayerLocation & { readonly kind: 'blob' }, claims: LayerClaims): LayerClaims {
  const { gzipDigest = digest } = claims;
  if (gzipDigest === digest) return { ...claims, gzipDigest };
  throw new InvalidLayer(`layer: gzipDigest is ${gzipDigest}, but the location names ${digest}`);
}

function bytesOf({ digest, size }: Layer) {
  return { digest, size };
}
