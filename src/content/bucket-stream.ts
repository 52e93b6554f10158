// Bodies of objects: files that are sent to a bucket, verified on the way, and streams from it, resumed where a connection breaks.
import { createReadStream } from 'node:fs';
import type { ByteRange } from '../oci/bytes.ts';
import { ContentMismatch, createVerifier, type Expected } from '../oci/verify.ts';
import { StorageFailure } from './store.ts';

export interface ObjectFile extends Expected {
  readonly path: string;
  readonly size: number;
}

/** Throws ContentMismatch in place of the last bytes of a file that has others than expected. */
export async function* readVerified({ path, ...expected }: ObjectFile): AsyncGenerator<Uint8Array> {
  const verifier = createVerifier(expected);
  let last: Uint8Array | undefined;
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 })) {
      verifier.update(chunk);
      if (last) yield last;
      last = chunk;
    }
  } catch (cause) {
    throw cause instanceof ContentMismatch ? cause : new StorageFailure('a file cannot be read back', { cause });
  }
  verifier.finish();
  if (last) yield last;
}

type Source = ReadableStreamDefaultReader<Uint8Array>;

/** The longest pause between the bytes of a body. */
const STALL_MS = 20_000;
/** The maximum number of resumptions per object. */
const MAX_RESUMPTIONS = 5;

/**
 * The bytes of `range`, in the chunks that the service sends: a buffer of ours for each would cost more than to read them. Where `first` breaks,
 * ends early or is silent for too long, the rest is asked for.
 */
export function streamResumed(
  first: Source,
  { start, end }: ByteRange,
  reopen: (start: number) => Promise<Source | undefined>,
): ReadableStream<Uint8Array> {
  let source = first;
  let offset = start;
  let resumptions = 0;
  let isClosed = false;

  async function readSome(): Promise<Uint8Array> {
    const { value } = await withinMs(STALL_MS, source.read());
    if (!value) throw new Error(`the object store ended a body at byte ${offset} of ${end + 1}`);
    return value.subarray(0, end + 1 - offset);
  }

  async function resume(error: unknown): Promise<void> {
    void leave(source);
    resumptions += 1;
    const rest = resumptions > MAX_RESUMPTIONS ? undefined : await reopen(offset);
    if (!rest) throw error;
    source = rest;
    if (isClosed) await leave(rest);
  }

  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        while (offset <= end && !isClosed) {
          try {
            const chunk = await readSome();
            offset += chunk.byteLength;
            if (!isClosed) controller.enqueue(chunk);
            return;
          } catch (error) {
            if (!isClosed) await resume(error);
          }
        }
        if (isClosed) return;
        await leave(source);
        controller.close();
      },
      async cancel() {
        isClosed = true;
        await leave(source);
      },
    },
    { highWaterMark: 0 },
  );
}

/** Cancelling a broken stream fails with its error, which is known. */
function leave(source: Source): Promise<void> {
  return source.cancel().catch(() => {});
}

async function withinMs<T>(ms: number, work: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`the object store was silent for ${ms} ms`)), ms);
  try {
    return await Promise.race([work, promise]);
  } finally {
    clearTimeout(timer);
  }
}
