// Byte ranges of content, distribution-spec "Pulling blobs" and RFC 9110 section 14, and unshared byte arrays.
import rangeParser from 'range-parser';
import { RegistryError } from './errors.ts';

/** Bytes `start` to `end`, both inclusive, as in Content-Range. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/**
 * The single range that a Range header requests of `size` bytes; undefined where the whole is to be served: no header, another unit, a
 * malformed one, or several ranges, all of which RFC 9110 lets a server ignore. Throws RANGE_INVALID (416) for one beyond the end.
 */
export function parseRange(header: string | undefined, size: number): ByteRange | undefined {
  if (header === undefined) return undefined;
  const ranges = rangeParser(size, header);
  if (ranges === -2 || (ranges !== -1 && (ranges.type !== 'bytes' || ranges.length !== 1))) return undefined;
  const range = ranges === -1 ? undefined : ranges[0];
  if (range) return { start: range.start, end: range.end };
  throw new RegistryError('RANGE_INVALID', `the range is outside of the blob's ${size} bytes`, { detail: { size } });
}

/**
 * The chunks joined into one array. Node allocates small buffers from a pool and reads sockets into large ones, and a slice retains the
 * whole: data for a cache or a record is copied first.
 */
export function joinBytes(chunks: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const joined = new Uint8Array(chunks.reduce((size, { byteLength }) => size + byteLength, 0));
  let offset = 0;
  for (const chunk of chunks) {
    joined.set(chunk, offset);
    offset += chunk.byteLength;
  }
  return joined;
}

/** Pieces of a body in memory, which are joined at its end. */
interface Pieces {
  add(piece: Uint8Array): void;
  /** All of them so far. */
  join(): Uint8Array<ArrayBuffer>;
}

/** So many are joined as they come. */
const MAX_RECENT = 256;

/** A sender may choose to send single bytes, and each piece takes hundreds besides its own: many small ones are joined as they come. */
export function createPieces(): Pieces {
  const joined: Uint8Array[] = [];
  let recent: Uint8Array[] = [];
  return {
    add(piece) {
      recent.push(piece);
      if (recent.length < MAX_RECENT) return;
      joined.push(joinBytes(recent));
      recent = [];
    },
    join: () => joinBytes([...joined, ...recent]),
  };
}
