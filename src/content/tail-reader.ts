// Reads content while it is being written: a watermark says how far it may be read. Readers that keep up with the writer get its last bytes from
// memory, the others read the file, which they share with it.
import type { FileHandle } from 'node:fs/promises';
import type { ByteRange } from '../oci/bytes.ts';
import { type ByteSource, createByteStream, readAt, streamSource, takeSource } from './byte-stream.ts';
import { type Recover, StorageFailure } from './store.ts';

/**
 * The bytes of `range`, as the watermark advances. Fails when the writer does, unless `recover` has the rest. Always releases `file` in the
 * end.
 */
export function readTail(
  file: SharedFile,
  { watermark, recent }: { readonly watermark: Watermark; readonly recent: Pick<RecentBytes, 'read'> },
  options: {
    readonly range?: ByteRange | undefined;
    readonly recover?: Recover | undefined;
    /** Told where it is, and last, once, when the stream has ended or was cancelled. */
    readonly reader: { moved(position: number): void; leave(): void };
  },
): ReadableStream<Uint8Array> {
  const { range, recover, reader } = options;
  const limit = range ? range.end + 1 : Number.POSITIVE_INFINITY;
  let offset = range?.start ?? 0;
  let isClosed = false;
  let rest: ByteSource | undefined;
  // Acquired at once: the writer may finish and close the file before the first read.
  const source = file.acquire();
  source.catch(() => {});

  async function readAvailable(view: Uint8Array): Promise<number> {
    const end = await readableEnd(watermark, offset, limit);
    if (offset >= end) return 0;
    const wanted = view.subarray(0, end - offset);
    const bytes = recent.read(wanted, offset) || (await readAt(await source, wanted, offset));
    if (watermark.current.state === 'failed') throw watermark.current.error;
    offset += bytes;
    // Who only waits for the last byte of a part does not hold the body up, nor does one who left during the read.
    if (!isClosed) reader.moved(offset < limit - 1 ? offset : Number.POSITIVE_INFINITY);
    return bytes;
  }

  async function findRest(error: unknown): Promise<ByteSource> {
    if (!recover || !(error instanceof StorageFailure)) throw error;
    const found = streamSource(await recover({ start: offset, end: limit - 1 }));
    // The reader has left meanwhile.
    if (isClosed) await found.close();
    return found;
  }

  return createByteStream({
    async read(view) {
      if (rest) return rest.read(view);
      try {
        return await readAvailable(view);
      } catch (error) {
        rest = await findRest(error);
        return rest.read(view);
      }
    },
    async close() {
      isClosed = true;
      reader.leave();
      await Promise.all([rest?.close(), file.release()]);
    },
  });
}

type WatermarkState =
  /** Bytes before `available` are written, and more are expected. */
  | { readonly state: 'growing'; readonly available: number }
  /** All `size` bytes are written and verified. */
  | { readonly state: 'verified'; readonly size: number }
  | { readonly state: 'failed'; readonly error: unknown };

interface Watermark {
  readonly current: WatermarkState;
  /** No effect unless more is available than before. */
  raise(available: number): void;
  change(next: WatermarkState): void;
  /** Resolves at the next change. */
  changed(): Promise<void>;
}

export function createWatermark(): Watermark {
  let current: WatermarkState = { state: 'growing', available: 0 };
  let next = Promise.withResolvers<void>();

  function change(state: WatermarkState): void {
    current = state;
    next.resolve();
    next = Promise.withResolvers();
  }

  return {
    get current() {
      return current;
    },
    raise(available) {
      if (current.state === 'growing' && available > current.available) change({ state: 'growing', available });
    },
    change,
    changed: () => next.promise,
  };
}

/**
 * Waits until a reader at `offset` of the bytes before `limit` may continue, and returns the exclusive end of what it may read. Until
 * everything is verified that is less than `limit`, so that no reader, not even of a range, completes with wrong bytes. Throws the failure.
 */
async function readableEnd(watermark: Watermark, offset: number, limit: number): Promise<number> {
  for (;;) {
    const { current } = watermark;
    if (current.state === 'failed') throw current.error;
    if (current.state === 'verified') return Math.min(current.size, limit);
    const end = Math.min(current.available, limit - 1);
    if (end > offset) return end;
    await watermark.changed();
  }
}

interface RecentBytes {
  /** Where the next bytes may be put, to be added then. Its memory is used again. */
  room(): Uint8Array;
  /** Adds what comes after all that was added before. */
  add(chunk: Uint8Array): void;
  /** Before this position all is in the file: it may go. */
  written(position: number): void;
  /** Copies what there is from `position` on to the start of `view`, and returns the number of bytes; 0 where the file has them. */
  read(view: Uint8Array, position: number): number;
  clear(): void;
}

/** What is in the file may stay in memory for readers that are a little late. */
const MAX_WRITTEN_BYTES = 512 * 1024;
const SLAB_BYTES = 512 * 1024;
/** A slab with less room is full: what a connection reads at once should fit. */
const MIN_ROOM = 128 * 1024;

/** The last bytes of a body of this size: all that is not in the file yet, and a little more. */
export function createRecentBytes(size = SLAB_BYTES): RecentBytes {
  const slabBytes = Math.min(size + 1, SLAB_BYTES);
  let chunks: Uint8Array[] = [];
  let start = 0;
  let end = 0;
  let slab: Uint8Array = new Uint8Array(0);
  let used = 0;
  const free: Uint8Array[] = [];
  return {
    room() {
      if (slab.byteLength - used < Math.min(MIN_ROOM, slabBytes)) {
        slab = free.pop() ?? new Uint8Array(slabBytes);
        used = 0;
      }
      return slab.subarray(used);
    },
    add(chunk) {
      chunks.push(chunk);
      end += chunk.byteLength;
      if (chunk.buffer === slab.buffer) used += chunk.byteLength;
    },
    written(position) {
      let gone = 0;
      for (const { byteLength, buffer } of chunks) {
        if (start + byteLength > position - MAX_WRITTEN_BYTES) break;
        start += byteLength;
        gone += 1;
        const isLastOfIts = buffer !== chunks[gone]?.buffer && buffer !== slab.buffer;
        if (isLastOfIts && slab.byteLength > 0) free.push(new Uint8Array(buffer));
      }
      chunks.splice(0, gone);
    },
    read(view, position) {
      let copied = 0;
      let at = start;
      for (const chunk of position < start ? [] : chunks) {
        const skip = position + copied - at;
        at += chunk.byteLength;
        if (skip >= chunk.byteLength) continue;
        const part = chunk.subarray(skip, skip + view.byteLength - copied);
        view.set(part, copied);
        copied += part.byteLength;
        if (copied === view.byteLength) break;
      }
      return copied;
    },
    clear() {
      chunks = [];
      start = end;
    },
  };
}

export interface Incoming {
  /** Undefined at the end, and once it is cancelled. */
  next(): Promise<Uint8Array | undefined>;
  /** Cancelling may fail or hang; only the original failure matters. */
  cancel(reason: unknown): void;
}

/** A body that fills views comes in the memory of `recent`, any other as its chunks are. */
export function openIncoming(body: ReadableStream<Uint8Array>, recent: Pick<RecentBytes, 'room'>): Incoming {
  const source = takeSource(body);
  if (!source) {
    const reader = body.getReader();
    return {
      next: async () => (await reader.read()).value,
      cancel: reason => void reader.cancel(reason).catch(() => {}),
    };
  }
  let end = () => {};
  return {
    next: () =>
      new Promise((resolve, reject) => {
        end = () => resolve(undefined);
        const room = recent.room();
        source.read(room).then(bytes => resolve(bytes === 0 ? undefined : room.subarray(0, bytes)), reject);
      }),
    cancel() {
      end();
      source.close().catch(() => {});
    },
  };
}

interface SharedFile {
  /** The caller releases what it acquired, once, also when this rejects. */
  acquire(): Promise<FileHandle>;
  release(): Promise<void>;
}

/** A file that is opened for its first user, and closed after the last. */
export function createSharedFile(open: () => Promise<FileHandle>): SharedFile {
  let users = 0;
  let file: Promise<FileHandle> | undefined;
  return {
    acquire() {
      users += 1;
      file ??= open();
      return file;
    },
    async release() {
      users -= 1;
      if (users > 0) return;
      const last = file;
      file = undefined;
      const opened = await last?.catch(() => undefined);
      await opened?.close();
    },
  };
}
