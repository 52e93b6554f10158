// Tars out of whatever packs them, within bounds: layers that others have made, and build contexts.
import { pipeline } from 'node:stream/promises';
import { InvalidTar } from './tar-members.ts';
import { createUnpacker, isCorruption, isTarStart, readHead, sniffCompression, TAR_BLOCK_BYTES } from './unpack.ts';

export interface UnpackLimits {
  /** Of the layer, unpacked. */
  readonly maxUnpackedBytes: number;
  /** Unpacked to packed; looked at beyond the first GiB. */
  readonly maxRatio: number;
}

/** The layer is beyond the limits, or no engine could unpack it. `message` says why, and quotes nothing of it. */
export class UnreadableLayer extends Error {
  override readonly name = 'UnreadableLayer';
}

const RATIO_FREE_BYTES = 1024 * 1024 * 1024;

/**
 * Gives `read` the tar of a layer; a layer that does not even begin as one is read to its end without it. Reads `body` to its end, or cancels it.
 * Throws UnreadableLayer, and the body's own error when that breaks.
 */
export async function unpackLayer(
  body: ReadableStream<Uint8Array>,
  limits: UnpackLimits,
  read: (tar: AsyncIterable<Uint8Array>) => Promise<void>,
): Promise<void> {
  const options: UnpackOptions = {
    limits: { ...limits, ratioFreeBytes: RATIO_FREE_BYTES },
    refuse: reason => new UnreadableLayer(reason),
  };
  try {
    await unpackTar(body, options, tar => readTar(tar, read));
  } catch (error) {
    throw explain(error);
  }
}

interface UnpackOptions {
  readonly limits: UnpackLimits & {
    /** Of the body, as it comes; absent: whoever opened it has a limit. */
    readonly maxPackedBytes?: number;
    /** Up to so many unpacked bytes, the ratio does not matter. */
    readonly ratioFreeBytes: number;
  };
  /** The error for a body that is beyond a limit, or not as it should be. */
  readonly refuse: (reason: string) => Error;
  /** Whether an empty body is refused, and one that goes on behind what is packed; default: neither. */
  readonly isStrict?: boolean;
}

/**
 * Gives `read` the bytes of a plain tar, a gzip or a zstd. Reads `body` to its end, or cancels it. Throws what `refuse` gives as soon as a
 * limit is passed, an error of `isCorruption`, and what `read` or the body threw.
 */
export async function unpackTar(
  body: ReadableStream<Uint8Array>,
  { limits, refuse, isStrict = false }: UnpackOptions,
  read: (tar: AsyncIterable<Uint8Array>) => Promise<void>,
): Promise<void> {
  const reader = body.getReader();
  const { maxPackedBytes = Number.POSITIVE_INFINITY, maxUnpackedBytes, maxRatio, ratioFreeBytes } = limits;
  let packed = 0;
  let unpacked = 0;

  async function* countPacked(head: Uint8Array): AsyncGenerator<Uint8Array> {
    for (let chunk: Uint8Array | undefined = head; chunk !== undefined; chunk = (await reader.read()).value) {
      packed += chunk.byteLength;
      if (packed > maxPackedBytes) throw refuse(`more than ${maxPackedBytes} bytes`);
      yield chunk;
    }
  }

  async function* countUnpacked(tar: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of tar) {
      unpacked += chunk.byteLength;
      if (unpacked > maxUnpackedBytes) throw refuse(`it unpacks to more than ${maxUnpackedBytes} bytes`);
      if (unpacked > ratioFreeBytes && unpacked > packed * maxRatio)
        throw refuse(`it unpacks to more than ${maxRatio} times its ${packed} bytes`);
      yield chunk;
    }
  }

  try {
    const head = await readHead(reader);
    if (isStrict && head.byteLength === 0) throw refuse('it is empty; expected a tar');
    const compression = sniffCompression(head);
    const unpacker = createUnpacker(compression);
    // A read from a sender who stalls would hold the pipeline's end back: cancelled, it ends.
    unpacker.stream.once('close', () => cancel(reader));
    await pipeline(countPacked(head), unpacker.stream, async (tar: AsyncIterable<Uint8Array>) => {
      await read(countUnpacked(tar));
      if (isStrict && unpacker.hasTrailing(packed)) throw refuse(`bytes follow the end of its ${compression}`);
    });
  } finally {
    cancel(reader);
  }
}

/** Does nothing to a body that has ended; the error of one that broke was thrown where it was read. */
function cancel(reader: ReadableStreamDefaultReader<Uint8Array>): void {
  reader.cancel().catch(() => {});
}

async function readTar(
  tar: AsyncIterable<Uint8Array>,
  read: (tar: AsyncIterable<Uint8Array>) => Promise<void>,
): Promise<void> {
  const chunks = tar[Symbol.asyncIterator]();
  const begun: Uint8Array[] = [];
  let size = 0;
  while (size < TAR_BLOCK_BYTES) {
    const { done, value } = await chunks.next();
    if (done) break;
    begun.push(value);
    size += value.byteLength;
  }
  const start = Buffer.concat(begun);
  const rest = { [Symbol.asyncIterator]: () => chunks };
  if (isTarStart(start.subarray(0, TAR_BLOCK_BYTES))) return read(joined(start, rest));
  for await (const _ of rest);
}

async function* joined(start: Uint8Array, rest: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield start;
  yield* rest;
}

function explain(error: unknown): unknown {
  if (error instanceof InvalidTar) return new UnreadableLayer(error.message, { cause: error });
  return isCorruption(error)
    ? new UnreadableLayer(`it cannot be unpacked (${error.message})`, { cause: error })
    : error;
}
