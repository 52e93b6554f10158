// The bytes of a layer that somebody names, such as a build context: verified against what was claimed of them before they are read.
import type { Work } from '../../augment/budget.ts';
import { bytesBlob } from '../../cache/read-through/blobs.ts';
import type { Layers } from './layers.ts';
import type { DescribeWanted, WantedLayer } from './wanted-layer.ts';

/** Throws InvalidLayer for one that is none, or is not what was claimed, and RegistryError for one that cannot be had. The caller reads the stream to its end or cancels it. */
export type OpenLayer = (wanted: WantedLayer, work?: Work) => Promise<ReadableStream<Uint8Array>>;

export function createOpenLayer(deps: { readonly describeWanted: DescribeWanted; readonly layers: Layers }): OpenLayer {
  return async (wanted, work) => {
    const { bytes, source } = await deps.describeWanted(wanted, work);
    const blob = bytes ? bytesBlob(bytes) : await deps.layers.get(source);
    const body = await blob.open();
    return work ? body.pipeThrough(new TransformStream(), { signal: work.signal }) : body;
  };
}
