// Reading a file by position, as a stream or a piece at a time.
import type { FileHandle } from 'node:fs/promises';
import { createByteStream } from './byte-stream.ts';

const CHUNK_BYTES = 1024 * 1024;

interface FilePart {
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
}

/** Closes `file` at the end, on an error and on cancel. */
export function streamFile(file: FileHandle, { start, end }: FilePart): ReadableStream<Uint8Array> {
  let offset = start;
  return createByteStream({
    async read(view) {
      if (offset >= end) return 0;
      const bytes = await readAt(file, view.subarray(0, end - offset), offset);
      offset += bytes;
      return bytes;
    },
    close: () => file.close(),
  });
}

/** Reads at least one byte from `offset` on into `view`, and gives their number. Throws where the file is shorter. */
export async function readAt(file: FileHandle, view: Uint8Array, offset: number): Promise<number> {
  const { bytesRead } = await file.read(view, 0, view.byteLength, offset);
  if (bytesRead === 0) throw new Error(`the file ends at byte ${offset} instead of ${offset + view.byteLength}`);
  return bytesRead;
}

/** At least one byte and at most 1 MiB from `start`, none from `end` on. Throws where the file is shorter. */
export async function readChunk(file: FileHandle, start: number, end: number): Promise<Uint8Array> {
  const chunk = Buffer.allocUnsafeSlow(Math.min(CHUNK_BYTES, end - start));
  return chunk.subarray(0, await readAt(file, chunk, start));
}
