// Checksums of content by block, computed while it is verified against its digest: later reads, of ranges too, are checked against them at
// a fraction of the cost of the digest.
import { crc32 } from 'node:zlib';

export const BLOCK_BYTES = 64 * 1024;

export interface BlockSums {
  /** Of the whole, in bytes. */
  readonly size: number;
  /** CRC-32 of each block. The last block may be shorter. */
  readonly sums: Uint32Array;
}

/** Computes the sums of the bytes passed to it, in chunks of any length. */
interface BlockSummer {
  update(chunk: Uint8Array): void;
  finish(): BlockSums;
}

export function createBlockSummer(): BlockSummer {
  let sums = new Uint32Array(16);
  let size = 0;
  let sum = 0;

  function endBlock(): void {
    const at = Math.ceil(size / BLOCK_BYTES) - 1;
    if (at === sums.length) {
      const larger = new Uint32Array(sums.length * 2);
      larger.set(sums);
      sums = larger;
    }
    sums[at] = sum;
    sum = 0;
  }

  return {
    update(chunk) {
      for (let at = 0; at < chunk.byteLength; ) {
        const part = chunk.subarray(at, at + BLOCK_BYTES - (size % BLOCK_BYTES));
        sum = crc32(part, sum);
        at += part.byteLength;
        size += part.byteLength;
        if (size % BLOCK_BYTES === 0) endBlock();
      }
    },
    finish() {
      if (size % BLOCK_BYTES > 0) endBlock();
      return { size, sums: sums.slice(0, Math.ceil(size / BLOCK_BYTES)) };
    },
  };
}
