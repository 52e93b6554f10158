// Streams a stored file, checking every block before it is passed on or, where the file has not been verified yet, the whole file before
// its last byte.
import type { FileHandle } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { ContentMismatch } from '../oci/verify.ts';
import { BLOCK_BYTES, type BlockSums } from './block-sums.ts';
import { createByteStream, readAt } from './byte-stream.ts';

interface CheckedPart {
  readonly start: number;
  /** Exclusive, at most `size`. */
  readonly end: number;
  /** Of the whole file. */
  readonly size: number;
  /** Absent where the file has not been verified yet. */
  readonly sums: BlockSums | undefined;
  /** Verifies the whole file. Throws ContentMismatch where it is damaged. */
  readonly verify: () => Promise<BlockSums>;
  /** Called before the stream breaks because the file differs from what was verified. */
  readonly onMismatch: () => Promise<void>;
}

interface Block {
  readonly start: number;
  readonly bytes: Uint8Array;
}

/** Closes `file` at the end, on an error and on cancel. Breaks with ContentMismatch. */
export function streamChecked(
  file: FileHandle,
  { start, end, size, ...check }: CheckedPart,
): ReadableStream<Uint8Array> {
  let { sums } = check;
  const verification = sums ? undefined : check.verify();
  verification?.then(
    verified => {
      sums = verified;
    },
    () => {},
  );
  // Sums of the blocks that were passed on unchecked, from `firstBlock` on.
  const firstBlock = Math.floor(start / BLOCK_BYTES);
  const unchecked: number[] = [];
  let offset = start;
  // A block that is only partly in the range, or has the last byte.
  let held: Block | undefined;

  function checkBlocks(bytes: Uint8Array, from: number): void {
    for (let at = 0; at < bytes.byteLength; at += BLOCK_BYTES) {
      const block = (from + at) / BLOCK_BYTES;
      const sum = crc32(bytes.subarray(at, at + BLOCK_BYTES));
      if (sums) requireSum(sums, block, sum);
      else unchecked[block - firstBlock] = sum;
    }
  }

  function checkGiven(verified: BlockSums): void {
    for (const [at, sum] of unchecked.entries()) requireSum(verified, firstBlock + at, sum);
    unchecked.length = 0;
  }

  /** Whole blocks that fit into `view`, without the last one of the range as long as that must be held back. */
  async function readBlocks(view: Uint8Array): Promise<number> {
    const free = sums ? end : Math.floor((end - 1) / BLOCK_BYTES) * BLOCK_BYTES;
    const most = Math.min(view.byteLength, free - offset);
    const isLast = offset + most === size;
    const bytes = offset % BLOCK_BYTES > 0 ? 0 : isLast ? most : most - (most % BLOCK_BYTES);
    if (bytes <= 0) return 0;
    await readAll(file, view.subarray(0, bytes), offset);
    checkBlocks(view.subarray(0, bytes), offset);
    return bytes;
  }

  async function readHeld(view: Uint8Array): Promise<number> {
    if (!held || offset < held.start || offset >= held.start + held.bytes.byteLength) {
      const blockStart = offset - (offset % BLOCK_BYTES);
      const bytes = new Uint8Array(Math.min(BLOCK_BYTES, size - blockStart));
      await readAll(file, bytes, blockStart);
      checkBlocks(bytes, blockStart);
      held = { start: blockStart, bytes };
    }
    if (verification && offset === end - 1) checkGiven(await verification);
    const free = verification && offset < end - 1 ? end - 1 : end;
    const part = held.bytes.subarray(offset - held.start, free - held.start).subarray(0, view.byteLength);
    view.set(part);
    return part.byteLength;
  }

  return createByteStream({
    async read(view) {
      if (offset >= end) return 0;
      try {
        if (sums) checkGiven(sums);
        const bytes = (await readBlocks(view)) || (await readHeld(view));
        offset += bytes;
        return bytes;
      } catch (error) {
        if (isDamage(error)) await check.onMismatch();
        throw error;
      }
    },
    close: () => file.close(),
  });
}

function requireSum({ sums }: BlockSums, block: number, sum: number): void {
  if (sums[block] === sum) return;
  throw new ContentMismatch(`what is read at byte ${block * BLOCK_BYTES} is not what was verified`);
}

async function readAll(file: FileHandle, view: Uint8Array, start: number): Promise<void> {
  for (let read = 0; read < view.byteLength; ) read += await readAt(file, view.subarray(read), start + read);
}

/** Whether an error means that the disk returns other bytes than were written; a bad sector does, too. */
export function isDamage(error: unknown): boolean {
  return error instanceof ContentMismatch || (error instanceof Error && 'code' in error && error.code === 'EIO');
}
