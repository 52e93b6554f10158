// The tar of a layer, however that is packed, within bounds: for what looks into layers that others have made.
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
  const reader = body.getReader();
  const sizes = { packed: 0, unpacked: 0 };
  try {
    const head = await readHead(reader);
    const unpacker = createUnpacker(sniffCompression(head));
    unpacker.stream.once('close', () => void reader.cancel().catch(() => {}));
    await pipeline(packedChunks(head, reader, sizes), unpacker.stream, async (tar: AsyncIterable<Uint8Array>) =>
      readTar(limitBytes(tar, sizes, limits), read),
    );
  } catch (error) {
    throw explain(error);
  } finally {
    reader.cancel().catch(() => {});
  }
}

interface Sizes {
  packed: number;
  unpacked: number;
}

async function* packedChunks(
  head: Uint8Array,
  reader: ReadableStreamDefaultReader<Uint8Array>,
  sizes: Sizes,
): AsyncGenerator<Uint8Array> {
  for (let chunk: Uint8Array | undefined = head; chunk !== undefined; chunk = (await reader.read()).value) {
    sizes.packed += chunk.byteLength;
    yield chunk;
  }
}

async function* limitBytes(
  tar: AsyncIterable<Uint8Array>,
  sizes: Sizes,
  { maxUnpackedBytes, maxRatio }: UnpackLimits,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of tar) {
    sizes.unpacked += chunk.byteLength;
    if (sizes.unpacked > maxUnpackedBytes)
      throw new UnreadableLayer(`it unpacks to more than ${maxUnpackedBytes} bytes`);
    if (sizes.unpacked > RATIO_FREE_BYTES && sizes.unpacked > sizes.packed * maxRatio) {
      throw new UnreadableLayer(`it unpacks to more than ${maxRatio} times its ${sizes.packed} bytes`);
    }
    yield chunk;
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
