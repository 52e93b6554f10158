// Ingestion: one writer pulls the body into a temporary file, while any number of readers follow its tail.
import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { type Digest, encodeDigest } from '../oci/digest.ts';
import { createVerifier, type Expected } from '../oci/verify.ts';
import { type BlockSums, createBlockSummer } from './block-sums.ts';
import { createFileWriter } from './file-writer.ts';
import { type Ingestion, StorageFailure } from './store.ts';
import {
  createRecentBytes,
  createSharedFile,
  createWatermark,
  type Incoming,
  openIncoming,
  readTail,
} from './tail-reader.ts';

/** Where one ingestion is stored. */
export interface StagedBlob {
  /** Creates the temporary file, for writing and reading. */
  create(): Promise<FileHandle>;
  /** Called before the file grows to this many bytes. Throws to refuse. */
  grow(size: number): Promise<void> | undefined;
  /** Moves the synced file to the path of its digest; durable when it resolves. */
  commit(digest: Digest, sums: BlockSums): Promise<void>;
  /** Reopens the committed file. */
  reopen(digest: Digest): Promise<FileHandle>;
  /** Removes the temporary file, if there is one. */
  discard(): Promise<void>;
}

/** When to abandon content that is only for its readers, once the last of them has left or none has come. */
export interface UnreadPolicy {
  /** The time it continues in any case: a client that was cut off may return. */
  readonly graceMs: number;
  /** The time it continues in total, if it is worth finishing and would be complete by then at the current rate. */
  readonly finishMs: number;
  /** Whether to finish it, given how much has arrived, although it has no readers. Not called where the size is unknown. */
  readonly isWorthFinishing: (bytes: number, size: number) => boolean;
}

export function createIngestion({
  body,
  expected,
  staged,
  unread,
  ...options
}: {
  readonly body: ReadableStream<Uint8Array>;
  readonly expected: Expected | undefined;
  readonly staged: StagedBlob;
  /** Aborts the ingestion. */
  readonly signal: AbortSignal;
  /** Undefined: it continues without readers indefinitely. */
  readonly unread?: UnreadPolicy | undefined;
}): Ingestion {
  let size = 0;
  const startedAt = performance.now();
  const isWorthFinishing = (withinMs: number) => {
    if (!unread || expected?.size === undefined) return false;
    const isInTime = (expected.size - size) * (performance.now() - startedAt) <= size * withinMs;
    return isInTime && unread.isWorthFinishing(size, expected.size);
  };
  const readers = createReaders(unread, isWorthFinishing);
  const signal = AbortSignal.any([options.signal, readers.none]);
  let committed: Digest | undefined;
  let failure: { readonly error: unknown } | undefined;
  const watermark = createWatermark();
  const recent = createRecentBytes(expected?.size);
  const begun = Promise.withResolvers<void>();
  const file = createSharedFile(async () => {
    if (failure) throw failure.error;
    return committed ? staged.reopen(committed) : staged.create();
  });
  const done = ingest(openIncoming(body, recent)).catch(error => {
    // Last: when readers see a failure, nothing is left of this ingestion, and another may start.
    failure = { error };
    begun.reject(error);
    // Verified content that cannot be stored is still read to its end from the open file.
    if (watermark.current.state !== 'verified') watermark.change({ state: 'failed', error });
    throw error;
  });
  // Readers see failures in their streams, so these promises need not be awaited.
  done.catch(() => {});
  begun.promise.catch(() => {});
  return {
    begun: begun.promise,
    done,
    get received() {
      return size;
    },
    open(range, recover) {
      if (range && expected?.size === undefined) throw new TypeError('a range of content of unknown size');
      return readTail(file, { watermark, recent }, { range, recover, reader: readers.join(range?.start ?? 0) });
    },
  };

  async function ingest(source: Incoming): Ingestion['done'] {
    const stop = () => {
      source.cancel(signal.reason);
      readers.close();
    };
    signal.addEventListener('abort', stop);
    try {
      const target = await ofStorage(file.acquire());
      const { sums, ...content } = await write(source, target);
      watermark.change({ state: 'verified', size: content.size });
      begun.resolve();
      await ofStorage(target.datasync());
      await ofStorage(staged.commit(content.digest, sums));
      committed = content.digest;
      return content;
    } catch (error) {
      source.cancel(error);
      // What cannot be removed now is removed at the next start.
      await staged.discard().catch(() => {});
      throw error;
    } finally {
      signal.removeEventListener('abort', stop);
      readers.close();
      recent.clear();
      await file.release();
    }
  }

  async function write(source: Incoming, target: FileHandle) {
    const check = expected ? checkPromised(expected) : computeDigest();
    const summer = createBlockSummer();
    const writer = createFileWriter(target, {
      onWritten(bytes) {
        begun.resolve();
        recent.written(bytes);
      },
      onFailed: error => source.cancel(error),
    });
    const growAndWrite = async (value: Uint8Array) => {
      await staged.grow(size);
      await writer.write(value);
    };
    for (;;) {
      signal.throwIfAborted();
      const value = await source.next();
      // A cancelled body looks like a finished one.
      signal.throwIfAborted();
      if (!value) break;
      if (value.byteLength === 0) continue;
      check.update(value);
      summer.update(value);
      // The previous chunk is not the last one, since another follows. What the file does not have of it yet is in memory.
      watermark.raise(size);
      recent.add(value);
      size += value.byteLength;
      await ofStorage(growAndWrite(value));
      await readers.keepPace(size);
    }
    // Checked first: a body that was cancelled because of a failed write has ended early.
    await ofStorage(writer.flush());
    return { digest: check.finish(), size, sums: summer.finish() };
  }
}

/** All readers have left. A reader that arrives at this moment gets the content without the store. */
function unwanted(): StorageFailure {
  return new StorageFailure('no reader is left');
}

interface Readers {
  /** Aborts when there has been no reader for too long. */
  readonly none: AbortSignal;
  /** Counts a reader at `start` until it leaves. */
  join(start: number): Reader;
  /** Resolves when readers that keep up are near `size`; undefined where they are. */
  keepPace(size: number): Promise<void> | undefined;
  close(): void;
}

interface Reader {
  moved(position: number): void;
  leave(): void;
}

interface Place {
  position: number;
  /** How long the body may still wait for it. */
  patienceMs: number;
}

/** What is further behind is no longer in memory. */
const MAX_LEAD_BYTES = 256 * 1024;
/** Who is further behind will not come near soon. */
const FAR_BYTES = 4 * 1024 * 1024;
/** How long a slow reader may delay a body, and all others with it. One that takes 64 MiB a second is not slow. */
const PATIENCE_MS = 100;
const BYTES_PER_MS = 64 * 1024;
/** How long all readers may delay a body beyond the time that it takes at that rate: many could come one after the other. */
const ALL_PATIENCE_MS = 2_000;

function createReaders(policy: UnreadPolicy | undefined, isWorthFinishing: (withinMs: number) => boolean): Readers {
  const none = new AbortController();
  // The first reader is on its way.
  const expected: Place = { position: 0, patienceMs: PATIENCE_MS };
  const places = new Set(policy ? [expected] : []);
  let count = 0;
  let isOver = false;
  /** How long the body has waited in total. */
  let heldMs = 0;
  let timer: NodeJS.Timeout | undefined;
  let wake = () => {};

  function wait(): void {
    if (policy && !isOver) timer = setTimeout(endGrace, policy.graceMs, policy.finishMs - policy.graceMs).unref();
  }

  function endGrace(leftMs: number): void {
    if (leftMs > 0 && isWorthFinishing(leftMs)) timer = setTimeout(endGrace, leftMs, 0).unref();
    else none.abort(unwanted());
  }

  function listBehind(size: number): readonly Place[] {
    return [...places].filter(({ position, patienceMs }) => {
      const lead = size - position;
      return lead > MAX_LEAD_BYTES && lead < FAR_BYTES && patienceMs > 0;
    });
  }

  async function waitFor(behind: readonly Place[], size: number): Promise<void> {
    const leftMs = () => ALL_PATIENCE_MS + size / BYTES_PER_MS - heldMs;
    for (let late = behind; late.length > 0 && !isOver && leftMs() > 0; late = listBehind(size)) {
      const since = performance.now();
      await new Promise<void>(resolve => {
        const patience = setTimeout(resolve, Math.min(leftMs(), Math.max(...late.map(({ patienceMs }) => patienceMs))));
        wake = () => {
          clearTimeout(patience);
          resolve();
        };
      });
      const waitedMs = performance.now() - since;
      heldMs += waitedMs;
      for (const place of late) place.patienceMs -= waitedMs;
    }
  }

  wait();
  return {
    none: none.signal,
    join(start) {
      const place: Place = { position: start, patienceMs: PATIENCE_MS };
      count += 1;
      clearTimeout(timer);
      return {
        moved(position) {
          const earnedMs = (position - place.position) / BYTES_PER_MS;
          place.patienceMs = Math.min(PATIENCE_MS, place.patienceMs + earnedMs);
          place.position = position;
          // Who never reads is not waited for.
          places.delete(expected);
          places.add(place);
          wake();
        },
        leave() {
          places.delete(place);
          wake();
          count -= 1;
          if (count === 0) wait();
        },
      };
    },
    keepPace(size) {
      const behind = listBehind(size);
      return behind.length > 0 ? waitFor(behind, size) : undefined;
    },
    close() {
      isOver = true;
      wake();
      clearTimeout(timer);
    },
  };
}

/** Marks failures as the store's own. */
async function ofStorage<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (cause) {
    throw new StorageFailure('the content store cannot store content', { cause });
  }
}

function checkPromised(expected: Expected) {
  const verifier = createVerifier(expected);
  return {
    update: (chunk: Uint8Array) => verifier.update(chunk),
    finish() {
      verifier.finish();
      return expected.digest;
    },
  };
}

function computeDigest() {
  const hash = createHash('sha256');
  return {
    update: (chunk: Uint8Array) => void hash.update(chunk),
    finish: () => encodeDigest('sha256', hash),
  };
}
