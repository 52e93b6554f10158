// Detects the compression of a layer by its first bytes, and unpacks it as a stream. Pure node:zlib: it handles all members of a gzip and
// all frames of a zstd, but silently stops at trailing bytes, which `hasTrailing` reports.
import { PassThrough, type Transform } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import type { Compression } from '../oci/media-type.ts';

/** The block size of a tar. */
export const TAR_BLOCK_BYTES = 512;

const CHECKSUM_START = 148;
const CHECKSUM_END = 156;
const SPACE = 0x20;

interface Unpacker {
  /** Packed bytes in, unpacked bytes out; fails with an error of `isCorruption`. */
  readonly stream: Transform;
  /** Whether some of the `packedSize` bytes read are trailing garbage after the last member or frame. Call it once `stream` has ended. */
  hasTrailing(packedSize: number): boolean;
}

const SNIFFED_BYTES = 4;
/** Node's default is 16 KiB: a layer would pass through the event loop in eight times as many pieces. */
const UNPACKED_CHUNK_BYTES = 128 * 1024;

/** Enough bytes to detect the compression, if there are as many. */
export async function readHead(reader: Pick<ReadableStreamDefaultReader<Uint8Array>, 'read'>): Promise<Uint8Array> {
  let head = new Uint8Array(0);
  while (head.byteLength < SNIFFED_BYTES) {
    const { done, value } = await reader.read();
    if (done) break;
    head = Buffer.concat([head, value]);
  }
  return head;
}

/**
 * By magic bytes of RFC 1952 and RFC 8878, skippable frames included; anything else is 'none', to be checked with `isTarStart`. Needs four
 * bytes.
 */
export function sniffCompression(head: Uint8Array): Compression {
  const [a = 0, b = 0, c = 0, d = 0] = head;
  if (a === 0x1f && b === 0x8b) return 'gzip';
  const isZstd = a === 0x28 && b === 0xb5 && c === 0x2f && d === 0xfd;
  const isSkippable = (a & 0xf0) === 0x50 && b === 0x2a && c === 0x4d && d === 0x18;
  return isZstd || isSkippable ? 'zstd' : 'none';
}

export function createUnpacker(compression: Compression): Unpacker {
  if (compression === 'none') return { stream: new PassThrough(), hasTrailing: () => false };
  // Asks for the next piece when it has consumed the last, whose buffer may be filled again then.
  const options = { chunkSize: UNPACKED_CHUNK_BYTES, writableHighWaterMark: 1 };
  const stream = compression === 'gzip' ? createGunzip(options) : createZstdDecompress(options);
  return { stream, hasTrailing: packedSize => packedSize > stream.bytesWritten };
}

/** Whether an unpacker failed because of invalid input, not because its source broke. */
export function isCorruption(error: unknown): error is Error {
  return error instanceof Error && 'code' in error && /^(?:Z_|ZSTD_)/.test(String(error.code));
}

/** Whether a complete first block is a header with the right checksum, or the zeros that end an empty archive. */
export function isTarStart(block: Uint8Array): boolean {
  if (block.byteLength !== TAR_BLOCK_BYTES) return false;
  return block.every(byte => byte === 0) || hasTarChecksum(block);
}

/** Whether a block has a valid header checksum. */
export function hasTarChecksum(block: Uint8Array): boolean {
  // Some old writers summed signed bytes, and every reader accepts that.
  let unsigned = SPACE * (CHECKSUM_END - CHECKSUM_START);
  let above = 0;
  for (let at = 0; at < TAR_BLOCK_BYTES; at += 1) {
    const byte = block[at] ?? 0;
    unsigned += byte;
    above += byte >> 7;
  }
  for (let at = CHECKSUM_START; at < CHECKSUM_END; at += 1) {
    const byte = block[at] ?? 0;
    unsigned -= byte;
    above -= byte >> 7;
  }
  const field = Buffer.from(block.buffer, block.byteOffset + CHECKSUM_START, CHECKSUM_END - CHECKSUM_START);
  const octal = /^ *([0-7]+)[ \0]*$/.exec(field.toString('latin1'))?.[1];
  const expected = octal === undefined ? undefined : Number.parseInt(octal, 8);
  return expected === unsigned || expected === unsigned - above * 0x100;
}
