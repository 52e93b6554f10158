// Byte streams over sources of bytes, such as files: a reader that brings its own buffer gets a large body without an allocation per chunk.
import type { FileHandle } from 'node:fs/promises';

export interface ByteSource {
  /** Writes the next bytes, at least one, to the start of `view`, and returns their number; 0 at the end. Calls do not overlap. */
  read(view: Uint8Array): Promise<number>;
  /** Called once: at the end, after an error, or on cancel, where a `read` may still be under way. */
  close(): Promise<void>;
}

/** The chunk size for a reader without its own buffer. */
const CHUNK_BYTES = 256 * 1024;

const SOURCE = Symbol('source');

/**
 * What is left of a byte stream, to be read without the stream, which is locked from now on: a chunk then costs one promise, and its buffer
 * stays what it is. The result reads nothing more once it is closed. Undefined for any other stream, and for a locked one.
 */
export function takeSource(stream: ReadableStream<Uint8Array>): ByteSource | undefined {
  if (stream.locked || !hasSource(stream)) return undefined;
  stream.getReader();
  return stream[SOURCE];
}

function hasSource(stream: ReadableStream): stream is ReadableStream & { readonly [SOURCE]: ByteSource } {
  return SOURCE in stream;
}

export function createByteStream({ read, close }: ByteSource): ReadableStream<Uint8Array> {
  let isOver = false;
  let isCancelled = false;

  async function leave(): Promise<void> {
    if (isOver) return;
    isOver = true;
    await close();
  }

  async function readOpen(view: Uint8Array): Promise<number> {
    if (isOver) return 0;
    try {
      const bytes = await read(view);
      if (isOver) return 0;
      if (bytes === 0) await leave();
      return bytes;
    } catch (error) {
      await leave();
      throw error;
    }
  }

  const stream = new ReadableStream({
    type: 'bytes',
    autoAllocateChunkSize: CHUNK_BYTES,
    async pull(controller) {
      const request = controller.byobRequest;
      if (!request?.view) throw new TypeError('a byte stream that allocates is pulled with a view');
      const { buffer, byteOffset, byteLength } = request.view;
      const bytes = await readOpen(new Uint8Array(buffer, byteOffset, byteLength));
      // It was cancelled meanwhile.
      if (isCancelled) return;
      if (bytes === 0) controller.close();
      request.respond(bytes);
    },
    cancel() {
      isCancelled = true;
      return leave();
    },
  });
  return Object.assign(stream, { [SOURCE]: { read: readOpen, close: leave } });
}

/** Chunks as a source: the rest of a chunk that does not fit is returned by the next read. Closing it cancels the stream. */
export function streamSource(stream: ReadableStream<Uint8Array>): ByteSource {
  const source = takeSource(stream);
  if (source) return source;
  const reader = stream.getReader();
  let left: Uint8Array = new Uint8Array(0);
  return {
    async read(view) {
      while (left.byteLength === 0) {
        const { done, value } = await reader.read();
        if (done) return 0;
        left = value;
      }
      const part = left.subarray(0, view.byteLength);
      view.set(part);
      left = left.subarray(part.byteLength);
      return part.byteLength;
    },
    // Cancelling a broken stream fails with its error, which the reader already has.
    close: () => reader.cancel().catch(() => {}),
  };
}

const FILE_CHUNK_BYTES = 1024 * 1024;

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

/** Reads at least one byte from `offset` into `view`, and returns their number. Throws where the file is shorter. */
export async function readAt(file: FileHandle, view: Uint8Array, offset: number): Promise<number> {
  const { bytesRead } = await file.read(view, 0, view.byteLength, offset);
  if (bytesRead === 0) throw new Error(`the file ends at byte ${offset} instead of ${offset + view.byteLength}`);
  return bytesRead;
}

/** At least one byte and at most 1 MiB from `start`, none from `end` on. Throws where the file is shorter. */
export async function readChunk(file: FileHandle, start: number, end: number): Promise<Uint8Array> {
  const chunk = Buffer.allocUnsafeSlow(Math.min(FILE_CHUNK_BYTES, end - start));
  return chunk.subarray(0, await readAt(file, chunk, start));
}
