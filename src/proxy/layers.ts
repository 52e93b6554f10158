// Layers that we put on top: where their bytes are, and one way to open them.

import type { LayerSource } from '../augment/layer-source.ts';
import type { ContentStore } from '../content/store.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import type { Upstreams } from '../upstream/upstream.ts';
import { type Blob, type Blobs, bytesBlob, createTransfers, keptBlob, type TransfersDeps } from './blobs.ts';
import type { Origins } from './origin.ts';

export interface Layers {
  /** Throws BLOB_UNKNOWN for a stored layer that is gone, or the error of where it is. */
  get(source: LayerSource): Promise<Blob>;
}

export interface LayersDeps {
  readonly content: ContentStore;
  readonly upstreams: Upstreams;
  readonly origins: Origins;
  readonly blobs: Blobs;
  readonly onFailed: TransfersDeps['onFailed'];
  /** The bytes of a layer that came with a request. */
  readonly findStored: (digest: Digest) => Promise<Uint8Array | undefined>;
}

export function createLayers({ content, upstreams, origins, blobs, findStored, onFailed }: LayersDeps): Layers {
  const transfers = createTransfers({ content, onFailed });

  return {
    async get(source) {
      switch (source.kind) {
        case 'stored':
          return storedBlob(source.digest, await findStored(source.digest));
        case 'blob':
          return blobs.get(origins.locate(source.registry, source.repository), source.digest);
        case 'url': {
          const kept = await content.find(source.digest);
          if (kept) return keptBlob(content, source.digest, kept.size);
          const openBody = () => upstreams.openUrl(new URL(source.url));
          return transfers({ key: `${source.url} ${source.digest}`, digest: source.digest, openBody });
        }
      }
    },
  };
}

function storedBlob(digest: Digest, bytes: Uint8Array | undefined): Blob {
  if (!bytes)
    throw new RegistryError('BLOB_UNKNOWN', `the layer ${digest} is not kept any more: ask for the augmentation anew`);
  return bytesBlob(bytes);
}
