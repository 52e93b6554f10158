// Layers that we put on top: where their bytes are, and one way to open them.
import type { LayerSource, MovedLayerSource } from '../../augment/layer-source.ts';
import { openMovedLayer } from '../../augment/moved-layer.ts';
import type { UnpackLimits } from '../../augment/unpack-layer.ts';
import { type Blob, bytesBlob, createTransfers, type TransfersDeps } from '../../cache/read-through/blobs.ts';
import { createKeptBlobs } from '../../cache/read-through/cached-blobs.ts';
import type { ContentStore } from '../../content/store.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import type { Upstreams } from '../../upstream/upstream.ts';
import type { Origins } from '../origin.ts';

export interface Layers {
  /** Throws BLOB_UNKNOWN for a stored layer that is gone, UNAVAILABLE for one of the shelf, or the error of where it is. */
  get(source: LayerSource): Promise<Blob>;
  /** The same without a transfer. An address is not asked: many that serve a layer know no HEAD. */
  head(source: LayerSource): Promise<{ readonly size: number | undefined }>;
  /** A layer as it is moved, made anew. `stored` are the bytes of the given one, where they are at hand. Throws as `get` does. */
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
  /** What came with requests. */
  readonly stored: Pick<ContentStore, 'find' | 'open'>;
  /** What rules read from this machine; absent where there are no rules. */
  readonly shelf?: Pick<ContentStore, 'find' | 'open'> | undefined;
  /** Of a layer that is moved. */
  readonly limits: UnpackLimits;
}

export function createLayers(deps: LayersDeps): Layers {
  const { content, upstreams, origins, stored, shelf, onFailed, limits } = deps;
  const transfers = createTransfers({ content, onFailed });
  const keptBlob = createKeptBlobs(content);
  const storedBlob = createKeptBlobs(stored);
  const shelvedBlob = shelf && createKeptBlobs(shelf);

  async function getStored(digest: Digest): Promise<Blob> {
    const lost = () =>
      new RegistryError('BLOB_UNKNOWN', `the layer ${digest} is not kept any more: submit the request anew`);
    const found = await stored.find(digest);
    if (!found) throw lost();
    const getAnew = async () => {
      throw lost();
    };
    return storedBlob({ digest, size: found.size, getAnew });
  }

  async function getFromUrl({ digest, url }: { readonly digest: Digest; readonly url: string }): Promise<Blob> {
    const key = `${url} ${digest}`;
    const growing = transfers.find(key);
    if (growing) return growing;
    const kept = await content.find(digest);
    const transfer = () => transfers.join({ key, digest, openBody: () => upstreams.openUrl(new URL(url), { digest }) });
    return kept ? keptBlob({ digest, size: kept.size, getAnew: transfer }) : transfer();
  }

  async function getShelved({ digest, size }: { readonly digest: Digest; readonly size: number }): Promise<Blob> {
    const lost = () =>
      new RegistryError('UNAVAILABLE', `the layer ${digest} of a rule is lost: it may be read again soon`);
    if (!shelvedBlob || !(await shelf.find(digest))) throw lost();
    const getAnew = async () => {
      throw lost();
    };
    return shelvedBlob({ digest, size, getAnew });
  }

  async function getMoved(source: MovedLayerSource): Promise<Blob> {
    const { digest, size } = source;
    const key = `moved ${digest}`;
    const growing = transfers.find(key);
    if (growing) return growing;
    const kept = await content.find(digest);
    const make = () =>
      transfers.join({
        key,
        digest,
        openBody: async () => ({ body: await openMoved(source), size }),
      });
    return kept ? keptBlob({ digest, size: kept.size, getAnew: make }) : make();
  }

  const openMoved: Layers['openMoved'] = async ({ inner, placement }, stored) => {
    const blob = stored ? bytesBlob(stored) : await get(inner);
    return openMovedLayer(await blob.open(), placement, limits);
  };

  async function get(source: LayerSource): Promise<Blob> {
    switch (source.kind) {
      case 'stored':
        return getStored(source.digest);
      case 'shelf':
        return getShelved(source);
      case 'url':
        return getFromUrl(source);
      case 'moved':
        return getMoved(source);
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
      if (source.kind === 'shelf') return getShelved(source);
      if (source.kind === 'url' || source.kind === 'moved') return source;
      const { registry, repository } = origins.locate(source.registry, source.repository);
      return registry.headBlob(repository, source.digest);
    },
  };
}
