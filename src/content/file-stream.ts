// Reading kept files in large chunks: 1 MiB is where a read loop stops being the bottleneck.
import type { FileHandle } from 'node:fs/promises';

export const CHUNK_BYTES = 1024 * 1024;

/** Bytes `start` to `end`, `end` exclusive. Closes `file` at the end, on an error and on cancel. */
export function streamFile(file: FileHandle, start: number, end: number): ReadableStream<Uint8Array> {
  let offset = start;
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        if (offset < end) {
          const chunk = await readChunk(file, offset, end);
          offset += chunk.byteLength;
          controller.enqueue(chunk);
        }
        if (offset < end) return;
        await file.close();
        controller.close();
      } catch (error) {
        await file.close();
        throw error;
      }
    },
    cancel: () => file.close(),
  });
}

/** At least one byte and at most CHUNK_BYTES from `start`, none from `end` on. Throws where the file is shorter. */
export async function readChunk(file: FileHandle, start: number, end: number): Promise<Uint8Array> {
  const length = Math.min(CHUNK_BYTES, end - start);
  const { bytesRead, buffer } = await file.read(Buffer.allocUnsafeSlow(length), 0, length, start);
  if (bytesRead === 0) throw new Error(`file ends at byte ${start} instead of ${end}`);
  return buffer.subarray(0, bytesRead);
}
