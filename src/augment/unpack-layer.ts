// Decompresses foreign tars within limits: layers and build contexts.
import { pipeline } from 'node:stream/promises';
import { cancelReader, openReader, type ReadOptions } from './body-reader.ts';
import { InvalidTar } from './tar-members.ts';
import { createUnpacker, isCorruption, isTarStart, readHead, sniffCompression, TAR_BLOCK_BYTES } from './unpack.ts';

export interface UnpackLimits {
  /** Of the unpacked layer. */
  readonly maxUnpackedBytes: number;
  /** Maximum ratio of unpacked to packed bytes; checked beyond the first GiB. */
  readonly maxRatio: number;
}

/** The layer exceeds the limits, or engines could not unpack it. `message` says why, and quotes nothing of it. */
export class UnreadableLayer extends Error {
  override readonly name = 'UnreadableLayer';
}

const RATIO_FREE_BYTES = 1024 * 1024 * 1024;

/**
 * Passes the tar of a layer to `read`; a layer that does not start as one is read to its end without calling it. Reads `body` to its end,
 * or cancels it. Throws UnreadableLayer, the body's own error when that breaks, and the reason of the signal.
 */
export async function unpackLayer(
  body: ReadableStream<Uint8Array>,
  { limits, ...options }: ReadOptions & { readonly limits: UnpackLimits },
  read: (tar: AsyncIterable<Uint8Array>) => Promise<void>,
): Promise<void> {
  const unpacking: UnpackOptions = {
    ...options,
    limits: { ...limits, ratioFreeBytes: RATIO_FREE_BYTES },
    refuse: reason => new UnreadableLayer(reason),
  };
  try {
    await unpackTar(body, unpacking, tar => readTar(tar, read));
  } catch (error) {
    throw explain(error);
  }
}

interface UnpackOptions extends ReadOptions {
  readonly limits: UnpackLimits & {
    /** Of the body as received; absent: the opener limits it. */
    readonly maxPackedBytes?: number;
    /** Up to this many unpacked bytes, the ratio is not checked. */
    readonly ratioFreeBytes: number;
  };
  /** Makes the error for a body that exceeds a limit or is invalid. */
  readonly refuse: (reason: string) => Error;
  /** Whether to reject an empty body, and trailing bytes after the compressed data; default: no. */
  readonly isStrict?: boolean;
}

/**
 * Passes the plain tar of a plain, gzip or zstd body to `read`. Reads `body` to its end, or cancels it. Throws what `refuse` makes as soon
 * as a limit is exceeded, an error of `isCorruption`, and what `read` or the body threw.
 */
export async function unpackTar(
  body: ReadableStream<Uint8Array>,
  { limits, refuse, isStrict = false, ...options }: UnpackOptions,
  read: (tar: AsyncIterable<Uint8Array>) => Promise<void>,
): Promise<void> {
  const reader = openReader(body, options);
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
    if (compression === 'none') {
      await read(countUnpacked(countPacked(head)));
      return;
    }
    const unpacker = createUnpacker(compression);
    // A pending read from a stalled sender would keep the pipeline open: cancelling ends it.
    unpacker.stream.once('close', () => cancelReader(reader));
    await pipeline(countPacked(head), unpacker.stream, async (tar: AsyncIterable<Uint8Array>) => {
      await read(countUnpacked(tar));
      if (isStrict && unpacker.hasTrailing(packed)) throw refuse(`bytes follow the end of its ${compression}`);
    });
  } finally {
    cancelReader(reader);
  }
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
    // Copied: its buffer may be filled again.
    begun.push(value.slice());
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
