// Batches writes to a file: chunks that arrive in one turn of the event loop, or during a write, are written together. A fast body takes
// few large writes, and no chunk of a slow one is delayed.
import { closeSync, constants, fsync, open, writeFile, writev } from 'node:fs';
import { type FileHandle, rm } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
import { promisify } from 'node:util';

interface FileWriter {
  /** Queues a chunk, and resolves when there is room for another. Throws once a write has failed. */
  write(chunk: Uint8Array): Promise<void>;
  /** Resolves when everything is written. */
  flush(): Promise<void>;
}

const MAX_WAITING_BYTES = 1024 * 1024;
/** Each takes memory besides its bytes, which may be few. */
const MAX_WAITING_CHUNKS = 4096;

export function createFileWriter(
  file: FileHandle,
  {
    onWritten,
    onFailed,
    maxWaitingBytes = MAX_WAITING_BYTES,
    syncEveryBytes = Number.POSITIVE_INFINITY,
  }: {
    /** Called after each write with the size of the file. */
    readonly onWritten: (size: number) => void;
    /** Called at once for a failure that `write` or `flush` will throw later: the next chunk may take long to arrive. */
    readonly onFailed: (error: unknown) => void;
    /** How many bytes may be queued during a write. Default: 1 MiB. */
    readonly maxWaitingBytes?: number;
    /** After so many bytes the disk begins to store them, while more are written: the last sync has little left to do. Default: never. */
    readonly syncEveryBytes?: number;
  },
): FileWriter {
  let waiting: Uint8Array[] = [];
  let waitingBytes = 0;
  let size = 0;
  let writing: Promise<void> | undefined;
  let unsyncedBytes = 0;
  let syncing: Promise<void> | undefined;
  let hasFailed = false;

  async function writeWaiting(): Promise<void> {
    while (waiting.length > 0) {
      await setImmediate();
      const batch = waiting;
      const bytes = waitingBytes;
      waiting = [];
      waitingBytes = 0;
      await writeAll(file, batch, bytes);
      size += bytes;
      onWritten(size);
      unsyncedBytes += bytes;
      if (unsyncedBytes >= syncEveryBytes) syncing ??= sync();
    }
    writing = undefined;
  }

  function start(): Promise<void> {
    const started = writeWaiting();
    started.catch(fail);
    return started;
  }

  /** The kernel tells an error of the disk once: it must not be lost, as a later sync would succeed. */
  function sync(): Promise<void> {
    unsyncedBytes = 0;
    const started = file.datasync();
    started.then(() => {
      syncing = undefined;
    }, fail);
    return started;
  }

  function fail(error: unknown): void {
    hasFailed = true;
    onFailed(error);
  }

  return {
    async write(chunk) {
      waiting.push(chunk);
      waitingBytes += chunk.byteLength;
      writing ??= start();
      if (hasFailed || waitingBytes >= maxWaitingBytes || waiting.length >= MAX_WAITING_CHUNKS) await writing;
      if (hasFailed) await syncing;
    },
    async flush() {
      await writing;
      await syncing;
    },
  };
}

/** Appends a batch of this many bytes to the file. */
async function writeAll(file: FileHandle, batch: readonly Uint8Array[], bytes: number): Promise<void> {
  const { bytesWritten } = await file.writev(batch);
  // After a partial write, only another try returns the error.
  if (bytesWritten < bytes) await file.writeFile(Buffer.concat(batch).subarray(bytesWritten));
}

const calls = {
  open: promisify(open),
  writev: promisify(writev),
  writeFile: promisify(writeFile),
  fsync: promisify(fsync),
};

/** Each write to it ends when it is synced, as by `fdatasync`. */
const NEW_SYNCED = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_DSYNC;

/**
 * Creates a file of `pieces`, synced. If it throws, there is no such file, as far as it can be removed; an existing one stays as it is. With few
 * calls: to hand one to the thread pool takes longer than to write a few bytes.
 */
export async function writeSynced(path: string, pieces: readonly Uint8Array[]): Promise<void> {
  const size = pieces.reduce((sum, { byteLength }) => sum + byteLength, 0);
  const file = await calls.open(path, NEW_SYNCED);
  try {
    const { bytesWritten } = await calls.writev(file, pieces);
    // After a partial write, only another try returns the error.
    if (bytesWritten < size) await calls.writeFile(file, Buffer.concat(pieces).subarray(bytesWritten));
    if (size === 0) await calls.fsync(file);
  } catch (error) {
    await rm(path, { force: true }).catch(() => {});
    throw error;
  } finally {
    // Waits for nothing, as the bytes are synced.
    closeSync(file);
  }
}
