// What a layer's bytes are, found in one pass in flat memory: nothing that came with them is believed, claims are only checked.
import { pipeline } from 'node:stream/promises';
import type { Digest } from '../oci/digest.ts';
import type { Layer } from './augmentation.ts';
import { createGauge, type Gauge } from './gauge.ts';
import { createUnpacker, isCorruption, isTarStart, readHead, sniffCompression, TAR_BLOCK_BYTES } from './unpack.ts';

/** The layer cannot be used as given: wrong claims, broken bytes, no tar, too large, or a location that we do not take. Free of secrets. */
export class InvalidLayer extends Error {
  override readonly name = 'InvalidLayer';
}

/** What the giver says of the layer. Digests may be of any algorithm; `gzipSize` is in bytes. */
export interface LayerClaims {
  /** Of the bytes as packed, whatever packed them. */
  readonly gzipDigest?: Digest | undefined;
  readonly gzipSize?: number | undefined;
  readonly tarDigest?: Digest | undefined;
}

export interface LayerLimits {
  /** Neither the tar nor its packed form may be larger. */
  readonly maxUnpackedBytes: number;
  /** Unpacked to packed; looked at all along, but only beyond `ratioFreeBytes` of unpacked bytes. */
  readonly maxRatio: number;
  /** Default: 16 MiB. */
  readonly ratioFreeBytes?: number;
}

export type LayerDescription = Omit<Layer, 'platforms'>;

const RATIO_FREE_BYTES = 16 * 1024 * 1024;

/**
 * Reads `body` to its end, or cancels it. Digests are of the algorithm of their claim, else sha256.
 * Throws InvalidLayer as soon as the bytes break a claim or limit, and the body's own error when that breaks.
 */
export async function describeLayer(
  body: ReadableStream<Uint8Array>,
  claims: LayerClaims,
  limits: LayerLimits,
): Promise<LayerDescription> {
  const reader = body.getReader();
  const packed = createGauge(claims.gzipDigest, size => checkPacked(size, claims, limits));
  const unpacked = createGauge(claims.tarDigest, size => checkUnpacked(size, packed.size, limits));
  try {
    const head = await readHead(reader);
    if (head.byteLength === 0) throw new InvalidLayer('layer: it is empty');
    const compression = sniffCompression(head);
    const unpacker = createUnpacker(compression);
    // A read from a sender who stalls would hold the pipeline's end back: cancelled, it ends.
    unpacker.stream.once('close', () => cancel(reader));
    await pipeline(readPacked(head, reader, packed), unpacker.stream, async tar => {
      await readTar(tar, unpacked);
      if (unpacker.hasTrailing(packed.size))
        throw new InvalidLayer(`layer: bytes follow the end of its ${compression}`);
    });
    const description = { digest: packed.digest(), size: packed.size, diffId: unpacked.digest(), compression };
    checkClaims(description, claims);
    return description;
  } catch (error) {
    throw isCorruption(error) ? corrupt(error, packed.size, unpacked.size) : error;
  } finally {
    cancel(reader);
  }
}

type Reader = ReadableStreamDefaultReader<Uint8Array>;

async function* readPacked(head: Uint8Array, reader: Reader, packed: Gauge): AsyncGenerator<Uint8Array> {
  for (let chunk: Uint8Array | undefined = head; chunk !== undefined; chunk = (await reader.read()).value) {
    packed.update(chunk);
    yield chunk;
  }
}

/** Only the first block is looked at: what follows is for those who unpack it. */
async function readTar(tar: AsyncIterable<Uint8Array>, unpacked: Gauge): Promise<void> {
  let start: Uint8Array = new Uint8Array(0);
  for await (const chunk of tar) {
    unpacked.update(chunk);
    if (start.byteLength === TAR_BLOCK_BYTES) continue;
    start = Buffer.concat([start, chunk.subarray(0, TAR_BLOCK_BYTES - start.byteLength)]);
    if (start.byteLength === TAR_BLOCK_BYTES) checkTarStart(start);
  }
  if (start.byteLength < TAR_BLOCK_BYTES) checkTarStart(start);
}

function checkTarStart(start: Uint8Array): void {
  if (isTarStart(start)) return;
  throw new InvalidLayer(
    'layer: not a tar, plain or packed as gzip or zstd: it does not start with a valid tar header',
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
    throw new InvalidLayer(`layer: ${packedSize} bytes unpack to ${size} and more, beyond the limit of ${maxRatio}:1`);
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

/** Does nothing to a body that has ended; the error of one that broke was thrown where it was read. */
function cancel(reader: Reader): void {
  reader.cancel().catch(() => undefined);
}
