// Layers that came with requests, as what reads them sees them, in memory.
import type { Digest } from '../../src/oci/digest.ts';
import type { TokenLayers } from '../../src/pull/tokens/layers.ts';

export function createHeldBytes(bytes: ReadonlyMap<Digest, Uint8Array>): Pick<TokenLayers, 'find' | 'open' | 'delete'> {
  return {
    async find(digest) {
      const found = bytes.get(digest);
      return found && { size: found.byteLength };
    },
    async open(digest, range) {
      const found = bytes.get(digest);
      return found && ReadableStream.from([range ? found.subarray(range.start, range.end + 1) : found]);
    },
    async delete() {},
  };
}
