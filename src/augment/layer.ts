// Inspects a layer in one streaming pass in flat memory. Nothing that the sender claims is trusted; claims are only verified.
import { createHash } from 'node:crypto';
import { pipeline } from 'node:stream/promises';
import { type Digest, digestAlgorithm, encodeDigest } from '../oci/digest.ts';
import type { Layer } from './augmentation.ts';
import { InvalidLayer, type Semaphore, type Work } from './budget.ts';
import { createUnpacker, isCorruption, isTarStart, readHead, sniffCompression, TAR_BLOCK_BYTES } from './unpack.ts';

/** What the sender claims about the layer. Digests may use any algorithm; `gzipSize` is in bytes. */
export interface LayerClaims {
  /** Of the compressed bytes, whatever the compression. */
  readonly gzipDigest?: Digest | undefined;
  readonly gzipSize?: number | undefined;
  readonly tarDigest?: Digest | undefined;
}

export interface LayerLimits {
  /** Limit for both the tar and its compressed form. */
  readonly maxUnpackedBytes: number;
  /** Maximum ratio of unpacked to packed bytes; checked continuously, but only beyond `ratioFreeBytes` of unpacked bytes. */
  readonly maxRatio: number;
  /** Default: 16 MiB. */
  readonly ratioFreeBytes?: number;
}

export type LayerDescription = Omit<Layer, 'platforms'>;

const RATIO_FREE_BYTES = 16 * 1024 * 1024;

/** The work this counts towards, and its turn at the processor; absent: no other requests need to wait for it. */
export interface LayerWork {
  readonly work?: Work | undefined;
  readonly semaphore?: Semaphore | undefined;
}

/**
 * Reads `body` to its end, or cancels it. Digests use the algorithm of their claim, else sha256. Throws InvalidLayer as soon as the bytes
 * violate a claim or limit, the body's own error when that breaks, and the reason of the work's signal.
 */
export async function describeLayer(
  body: ReadableStream<Uint8Array>,
  claims: LayerClaims,
  limits: LayerLimits & LayerWork,
): Promise<LayerDescription> {
  const { work, semaphore } = limits;
  const reader = body.getReader();
  const leave = () => cancel(reader, work?.signal.reason);
  work?.signal.addEventListener('abort', leave, { once: true });
  const packed = createSizedDigester(claims.gzipDigest, size => checkPacked(size, claims, limits));
  const unpacked = createSizedDigester(claims.tarDigest, size => checkUnpacked(size, packed.size, limits));
  try {
    work?.signal.throwIfAborted();
    const head = await readHead(reader);
    if (head.byteLength === 0) throw new InvalidLayer('layer: it is empty');
    const compression = sniffCompression(head);
    const unpacker = createUnpacker(compression);
    // A pending read from a stalled sender would keep the pipeline open: cancelling ends it.
    unpacker.stream.once('close', () => cancel(reader));
    const bytes = readPacked(reader, { head, packed, work, semaphore });
    const consume = async (tar: AsyncIterable<Uint8Array>) => {
      await readTar(tar, chunk => {
        unpacked.update(chunk);
        work?.unpacked(chunk.byteLength);
      });
      if (unpacker.hasTrailing(packed.size))
        throw new InvalidLayer(`layer: bytes follow the end of its ${compression}`);
    };
    await pipeline(bytes, unpacker.stream, consume, { signal: work?.signal });
    const description = { digest: packed.digest(), size: packed.size, diffId: unpacked.digest(), compression };
    checkClaims(description, claims);
    return description;
  } catch (error) {
    work?.signal.throwIfAborted();
    throw isCorruption(error) ? corrupt(error, packed.size, unpacked.size) : error;
  } finally {
    work?.signal.removeEventListener('abort', leave);
    cancel(reader);
  }
}

type Reader = ReadableStreamDefaultReader<Uint8Array>;

interface Packed extends LayerWork {
  readonly head: Uint8Array;
  readonly packed: SizedDigester;
}

/** The part of a chunk that is unpacked in one turn. */
const MAX_PART_BYTES = 64 * 1024;

/** A turn ends when its bytes are unpacked, so that a slow sender holds none. */
async function* readPacked(reader: Reader, { head, packed, work, semaphore }: Packed): AsyncGenerator<Uint8Array> {
  for (let chunk: Uint8Array | undefined = head; chunk !== undefined; chunk = (await reader.read()).value) {
    for (let at = 0; at < chunk.byteLength; at += MAX_PART_BYTES) {
      const release = await semaphore?.acquire(work?.signal);
      const part = chunk.subarray(at, at + MAX_PART_BYTES);
      try {
        packed.update(part);
        yield part;
      } finally {
        release?.();
      }
    }
  }
}

/** Only the first block is checked: the rest is up to the engines that unpack it. */
async function readTar(tar: AsyncIterable<Uint8Array>, onChunk: (chunk: Uint8Array) => void): Promise<void> {
  let start: Uint8Array = new Uint8Array(0);
  for await (const chunk of tar) {
    onChunk(chunk);
    if (start.byteLength === TAR_BLOCK_BYTES) continue;
    start = Buffer.concat([start, chunk.subarray(0, TAR_BLOCK_BYTES - start.byteLength)]);
    if (start.byteLength === TAR_BLOCK_BYTES) checkTarStart(start);
  }
  if (start.byteLength < TAR_BLOCK_BYTES) checkTarStart(start);
}

function checkTarStart(start: Uint8Array): void {
  if (isTarStart(start)) return;
  throw new InvalidLayer(
    'layer: not a tar, plain or compressed with gzip or zstd: it does not start with a valid tar header',
  );
}

function checkPacked(size: number, { gzipSize }: LayerClaims, { maxUnpackedBytes }: LayerLimits): void {
  if (gzipSize !== undefined && size > gzipSize) {
    throw new InvalidLayer(`layer: gzipSize is ${gzipSize}, but there are more bytes than that`);
  }
  if (size > maxUnpackedBytes) throw new InvalidLayer(`layer: larger than the limit of ${maxUnpackedBytes} bytes`);
}

function checkUnpacked(size: number, packedSize: number, limits: LayerLimits): void {
  const { maxUnpackedBytes, maxRatio, ratioFreeBytes = RATIO_FREE_BYTES } = limits;
  if (size > maxUnpackedBytes) {
    throw new InvalidLayer(`layer: unpacked it is larger than the limit of ${maxUnpackedBytes} bytes`);
  }
  if (size > ratioFreeBytes && size > packedSize * maxRatio) {
    throw new InvalidLayer(`layer: ${packedSize} bytes unpack to at least ${size}, beyond the limit of ${maxRatio}:1`);
  }
}

function checkClaims({ digest, size, diffId }: LayerDescription, claims: LayerClaims): void {
  const { gzipDigest = digest, gzipSize = size, tarDigest = diffId } = claims;
  if (gzipSize !== size) throw new InvalidLayer(`layer: gzipSize is ${gzipSize}, but there are ${size} bytes`);
  if (gzipDigest !== digest) {
    throw new InvalidLayer(`layer: gzipDigest is ${gzipDigest}, but the ${size} bytes have digest ${digest}`);
  }
  if (tarDigest !== diffId) {
    throw new InvalidLayer(`layer: tarDigest is ${tarDigest}, but the unpacked bytes have digest ${diffId}`);
  }
}

function corrupt(cause: Error, packedSize: number, unpackedSize: number): InvalidLayer {
  const where = `${packedSize} bytes read, ${unpackedSize} unpacked`;
  return new InvalidLayer(`layer: corrupt or truncated, ${cause.message} (${where})`, { cause });
}

/** Has no effect on a finished body; the error of a broken one was thrown by its read. */
function cancel(reader: Reader, reason?: unknown): void {
  reader.cancel(reason).catch(() => undefined);
}

/** Counts and hashes bytes in one pass. */
export interface SizedDigester {
  readonly size: number;
  update(chunk: Uint8Array): void;
  /** Call once, at the end. */
  digest(): Digest;
}

/** Uses the algorithm of the claimed digest, else sha256; `check` is called with each new size, and throws if it exceeds a limit. */
export function createSizedDigester(claimed: Digest | undefined, check: (size: number) => void): SizedDigester {
  const algorithm = claimed === undefined ? 'sha256' : digestAlgorithm(claimed);
  const hash = createHash(algorithm);
  let size = 0;
  return {
    get size() {
      return size;
    },
    update(chunk) {
      size += chunk.byteLength;
      check(size);
      hash.update(chunk);
    },
    digest: () => encodeDigest(algorithm, hash),
  };
}
