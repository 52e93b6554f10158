// Content on its way in: one writer pulls the body into a temporary file, any number of readers follow the file as it grows.
import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { type Digest, encodeDigest } from '../oci/digest.ts';
import type { ByteRange } from '../oci/range.ts';
import { createVerifier, type Expected } from '../oci/verify.ts';
import { readChunk } from './file-stream.ts';
import { createGrowthSignal, type GrowthSignal, readableEnd } from './growth.ts';
import { createSharedFile, type SharedFile } from './shared-file.ts';
import type { Ingestion } from './store.ts';

/** The place of one ingestion on disk. */
export interface Slot {
  /** Creates the temporary file, for writing and reading. */
  create(): Promise<FileHandle>;
  /** Moves the file, already synced, to where its digest is found; durable when it resolves. */
  keep(digest: Digest): Promise<void>;
  /** Opens the file again after it was kept. */
  reopen(digest: Digest): Promise<FileHandle>;
  /** Removes the temporary file, if there is one. */
  discard(): Promise<void>;
}

export interface IngestionOptions {
  readonly body: ReadableStream<Uint8Array>;
  readonly expected: Expected | undefined;
  readonly slot: Slot;
  /** Ends the ingestion as a failure. */
  readonly signal: AbortSignal;
}

export function createIngestion({ body, expected, slot, signal }: IngestionOptions): Ingestion {
  let kept: Digest | undefined;
  const growth = createGrowthSignal();
  const file = createSharedFile(async () => {
    if (growth.current.state === 'failed') throw growth.current.error;
    return kept ? slot.reopen(kept) : slot.create();
  });
  const done = ingest(body.getReader()).catch(error => {
    // Last of all: when its readers learn of a failure, nothing of the ingestion is left, and another may start.
    growth.change({ state: 'failed', error });
    throw error;
  });
  // Who follows only a reader learns of a failure from its stream: nobody else has to listen.
  done.catch(() => {});
  return {
    done,
    open(range) {
      if (range && expected?.size === undefined) throw new TypeError('a range of content of unknown size');
      return follow(file, growth, range);
    },
  };

  async function ingest(source: ReadableStreamDefaultReader<Uint8Array>): Ingestion['done'] {
    const stop = () => cancelQuietly(source, signal.reason);
    signal.addEventListener('abort', stop);
    try {
      const target = await file.acquire();
      const content = await write(source, target);
      growth.change({ state: 'verified', size: content.size });
      await target.sync();
      await slot.keep(content.digest);
      kept = content.digest;
      return content;
    } catch (error) {
      cancelQuietly(source, error);
      await slot.discard();
      throw error;
    } finally {
      signal.removeEventListener('abort', stop);
      await file.release();
    }
  }

  async function write(source: ReadableStreamDefaultReader<Uint8Array>, target: FileHandle) {
    const check = expected ? checkPromised(expected) : computeDigest();
    let size = 0;
    for (;;) {
      signal.throwIfAborted();
      const { done, value } = await source.read();
      // A cancelled body looks like one that ended.
      signal.throwIfAborted();
      if (done) return { digest: check.finish(), size };
      if (value.byteLength === 0) continue;
      check.update(value);
      // What was written before is not the last chunk, now that another follows.
      growth.change({ state: 'growing', available: size });
      await target.writeFile(value);
      size += value.byteLength;
    }
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

/** A cancel may fail or hang; the failure that led to it is what counts. */
function cancelQuietly(source: ReadableStreamDefaultReader<Uint8Array>, reason: unknown): void {
  source.cancel(reason).catch(() => {});
}

function follow(file: SharedFile, growth: GrowthSignal, range: ByteRange | undefined): ReadableStream<Uint8Array> {
  const limit = range ? range.end + 1 : Number.POSITIVE_INFINITY;
  let offset = range?.start ?? 0;
  let isOver = false;
  // Acquired at once: the writer may be done, and the file closed, before the first read.
  const source = file.acquire();
  source.catch(() => {});
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const end = await readableEnd(growth, offset, limit);
        if (offset < end && !isOver) {
          const chunk = await readChunk(await source, offset, end);
          if (growth.current.state === 'failed') throw growth.current.error;
          offset += chunk.byteLength;
          if (!isOver) controller.enqueue(chunk);
        }
        if (growth.current.state !== 'verified' || offset < Math.min(limit, growth.current.size) || isOver) return;
        await leave();
        controller.close();
      } catch (error) {
        await leave();
        throw error;
      }
    },
    cancel: leave,
  });

  async function leave(): Promise<void> {
    if (isOver) return;
    isOver = true;
    await file.release();
  }
}
