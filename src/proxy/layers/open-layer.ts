// The bytes of a layer that somebody names, such as a build context: verified against what was claimed of them before they are read.
import { bytesBlob } from '../kept/blobs.ts';
import type { Layers } from './layers.ts';
import type { DescribeWanted, WantedLayer } from './wanted-layer.ts';

/** Throws InvalidLayer for one that is none, or is not what was claimed, and RegistryError for one that cannot be had. The caller reads the stream to its end or cancels it. */
export type OpenLayer = (wanted: WantedLayer) => Promise<ReadableStream<Uint8Array>>;

export function createOpenLayer(deps: { readonly describeWanted: DescribeWanted; readonly layers: Layers }): OpenLayer {
  return async wanted => {
    const { bytes, source } = await deps.describeWanted(wanted);
    const blob = bytes ? bytesBlob(bytes) : await deps.layers.get(source);
    return blob.open();
  };
}
