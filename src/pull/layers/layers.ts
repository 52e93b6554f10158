// Appended layers: their location, and one way to open them.
import type { Work } from '../../augment/budget.ts';
import type { LayerSource, MovedLayerSource } from '../../augment/layer-source.ts';
import { openMovedLayer } from '../../augment/moved-layer.ts';
import type { UnpackLimits } from '../../augment/unpack-layer.ts';
import { type Blob, bytesBlob, cachedBlob } from '../../cache/read-through/cached.ts';
import { createTransfers, type OpenBody, type TransfersDeps } from '../../cache/read-through/transfers.ts';
import type { ContentStore } from '../../content/store.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import type { Upstreams } from '../../upstream/upstream.ts';
import type { Origins } from '../origin.ts';
import type { DescribeWanted, WantedLayer } from './describe-layer.ts';

export interface Layers {
  /** Throws BLOB_UNKNOWN for a lost layer of a request, UNAVAILABLE for one of a rule, or the error of its location. */
  get(source: LayerSource): Promise<Blob>;
  /** The same without a transfer. Addresses are not contacted: many servers of layers do not support HEAD. */
  head(source: LayerSource): Promise<{ readonly size: number | undefined }>;
  /** A moved layer, derived again. `stored` is the original, if available. Throws as `get` does. */
  openMoved(
    moved: Pick<MovedLayerSource, 'inner' | 'placement'>,
    stored?: Uint8Array,
  ): Promise<ReadableStream<Uint8Array>>;
}

export interface LayersDeps {
  readonly content: ContentStore;
  readonly upstreams: Upstreams;
  readonly origins: Origins;
  readonly onFailed: TransfersDeps['onFailed'];
  /** Layers that came with requests. */
  readonly stored: Pick<ContentStore, 'find' | 'open'>;
  /** Layers that rules read from this machine; absent without rules. */
  readonly ruleLayers?: Pick<ContentStore, 'find' | 'open'> | undefined;
  /** Of a moved layer. */
  readonly limits: UnpackLimits;
}

export function createLayers(deps: LayersDeps): Layers {
  const { content, upstreams, origins, stored, ruleLayers, onFailed, limits } = deps;
  const transfers = createTransfers({ content, onFailed });

  /** A local layer: once lost, it cannot be refetched. */
  async function getLocal(
    store: Pick<ContentStore, 'find' | 'open'> | undefined,
    digest: Digest,
    lost: () => RegistryError,
  ): Promise<Blob & { readonly size: number }> {
    const found = await store?.find(digest);
    if (!store || !found) throw lost();
    const refetch = () => Promise.reject(lost());
    return cachedBlob(store, { digest, size: found.size, refetch });
  }

  /** A cached layer, refetched if evicted: one transfer for all concurrent callers with the same key. */
  async function getCached(key: string, digest: Digest, openBody: OpenBody): Promise<Blob> {
    const growing = transfers.find(key);
    if (growing) return growing;
    const cached = await content.find(digest);
    const transfer = () => transfers.join({ key, digest, openBody });
    return cached ? cachedBlob(content, { digest, size: cached.size, refetch: transfer }) : transfer();
  }

  const getStored = (digest: Digest) => getLocal(stored, digest, () => missingUpload(digest));
  const getRuleLayer = (digest: Digest) => getLocal(ruleLayers, digest, () => missingRuleLayer(digest));

  const openMoved: Layers['openMoved'] = async ({ inner, placement }, stored) => {
    const blob = stored ? bytesBlob(stored) : await get(inner);
    return openMovedLayer(await blob.open(), placement, limits);
  };

  async function get(source: LayerSource): Promise<Blob> {
    switch (source.kind) {
      case 'stored':
        return getStored(source.digest);
      case 'shelf':
        return getRuleLayer(source.digest);
      case 'url':
        return getCached(`${source.url} ${source.digest}`, source.digest, () =>
          upstreams.openUrl(new URL(source.url), { digest: source.digest }),
        );
      case 'moved':
        return getCached(`moved ${source.digest}`, source.digest, async () => ({
          body: await openMoved(source),
          size: source.size,
        }));
      case 'blob': {
        const { registry, repository } = origins.locate(source.registry, source.repository);
        return registry.getBlob(repository, source.digest);
      }
    }
  }

  return {
    get,
    openMoved,
    async head(source) {
      if (source.kind === 'stored') return getStored(source.digest);
      if (source.kind === 'shelf') return getRuleLayer(source.digest);
      if (source.kind === 'url' || source.kind === 'moved') return source;
      const { registry, repository } = origins.locate(source.registry, source.repository);
      return registry.headBlob(repository, source.digest);
    },
  };
}

function missingUpload(digest: Digest): RegistryError {
  return new RegistryError('BLOB_UNKNOWN', `the layer ${digest} is no longer stored: submit the request again`);
}

function missingRuleLayer(digest: Digest): RegistryError {
  return new RegistryError(
    'UNAVAILABLE',
    `the layer ${digest} of a rule is lost and may be read again soon: try again`,
  );
}

/**
 * Throws InvalidLayer for an invalid layer, or one that does not match its claims, and RegistryError for an unavailable one. The caller
 * reads the stream to its end or cancels it.
 */
export type OpenLayer = (wanted: WantedLayer, work?: Work) => Promise<ReadableStream<Uint8Array>>;

export function createOpenLayer(deps: { readonly describeWanted: DescribeWanted; readonly layers: Layers }): OpenLayer {
  return async (wanted, work) => {
    const { bytes, source } = await deps.describeWanted(wanted, work);
    const blob = bytes ? bytesBlob(bytes) : await deps.layers.get(source);
    const body = await blob.open();
    return work ? body.pipeThrough(new TransformStream(), { signal: work.signal }) : body;
  };
}
