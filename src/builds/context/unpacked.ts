// The bytes of a tar out of whatever packs it, within limits.
import { pipeline } from 'node:stream/promises';
import { createUnpacker, isCorruption, readHead, sniffCompression } from '../../augment/unpack.ts';
import { type ContextLimits, InvalidContext } from './tree.ts';

/**
 * Reads a plain tar, a gzip or a zstd to its end, or cancels it. `read` gets the unpacked bytes. Throws InvalidContext as soon as the
 * bytes are corrupt or beyond a limit, else what `read` or the body threw.
 */
export async function readUnpacked(
  body: ReadableStream<Uint8Array>,
  limits: ContextLimits,
  read: (tar: AsyncIterable<Uint8Array>) => Promise<void>,
): Promise<void> {
  const reader = body.getReader();
  const sizes = { packed: 0, unpacked: 0 };
  try {
    const head = await readHead(reader);
    if (head.byteLength === 0) throw new InvalidContext('build context: it is empty; expected a tar');
    const compression = sniffCompression(head);
    const unpacker = createUnpacker(compression);
    // A read from a sender who stalls would hold the pipeline's end back: cancelled, it ends.
    unpacker.stream.once('close', () => cancel(reader));
    await pipeline(
      countPacked(head, reader, sizes, limits),
      unpacker.stream,
      async (tar: AsyncIterable<Uint8Array>) => {
        await read(countUnpacked(tar, sizes, limits));
        if (unpacker.hasTrailing(sizes.packed)) {
          throw new InvalidContext(`build context: bytes follow the end of its ${compression}`);
        }
      },
    );
  } catch (error) {
    throw isCorruption(error) ? corrupt(error) : error;
  } finally {
    cancel(reader);
  }
}

type Reader = ReadableStreamDefaultReader<Uint8Array>;
interface Sizes {
  packed: number;
  unpacked: number;
}

async function* countPacked(
  head: Uint8Array,
  reader: Reader,
  sizes: Sizes,
  { maxPackedBytes }: ContextLimits,
): AsyncGenerator<Uint8Array> {
  for (let chunk: Uint8Array | undefined = head; chunk !== undefined; chunk = (await reader.read()).value) {
    sizes.packed += chunk.byteLength;
    if (sizes.packed > maxPackedBytes) throw new InvalidContext(`build context: more than ${maxPackedBytes} bytes`);
    yield chunk;
  }
}

async function* countUnpacked(
  tar: AsyncIterable<Uint8Array>,
  sizes: Sizes,
  { maxBytes, maxRatio, ratioFreeBytes }: ContextLimits,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of tar) {
    sizes.unpacked += chunk.byteLength;
    if (sizes.unpacked > maxBytes) {
      throw new InvalidContext(`build context: it unpacks to more than ${maxBytes} bytes`);
    }
    if (sizes.unpacked > ratioFreeBytes && sizes.unpacked > sizes.packed * maxRatio) {
      throw new InvalidContext(`build context: it unpacks to more than ${maxRatio} times its bytes`);
    }
    yield chunk;
  }
}

function corrupt(cause: Error): InvalidContext {
  return new InvalidContext(`build context: corrupt or truncated: ${cause.message}`, { cause });
}

/** Does nothing to a body that has ended; the error of one that broke was thrown where it was read. */
function cancel(reader: Reader): void {
  reader.cancel().catch(() => undefined);
}
