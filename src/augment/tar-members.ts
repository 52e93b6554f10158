// Streams the members of a tar: headers are interpreted as Go's archive/tar does, and retained as bytes, so that everything unchanged is
// written back as it was. Names are bytes, one character for each (latin1): a tar does not declare their encoding.
import { hasTarChecksum, TAR_BLOCK_BYTES } from './unpack.ts';

/** The bytes are not a tar that engines could unpack, or are truncated. Quotes nothing of them. */
export class InvalidTar extends Error {
  override readonly name = 'InvalidTar';
}

export interface TarMember {
  /** As written, with extended headers applied. */
  readonly name: string;
  /** The type flag: `0` of a file, `1` of a hard link, `2` of a symlink, `5` of a directory, `g` of a header for all that follow. */
  readonly type: string;
  /** The target of a link. */
  readonly linkName: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** In whole seconds. */
  readonly mtime: number;
  /** Its header, without the extended ones before it: one block, more for a sparse file. */
  readonly header: Uint8Array;
  /** The records of its pax header. */
  readonly pax: ReadonlyMap<string, string>;
  /** All of its headers, verbatim. */
  readonly raw: Uint8Array;
}

/** A member, or a part of the content of the last one with its padding. */
type TarPart =
  | { readonly kind: 'member'; readonly member: TarMember }
  | { readonly kind: 'content'; readonly bytes: Uint8Array };

/** The largest that Go accepts. */
const MAX_EXTENSION_BYTES = 1024 * 1024;
/** Types without content, whatever their size field says. */
const HEADER_ONLY = /^[1-6]$/;
const SPACE = 0x20;
const ZERO = 0x30;
const SPARSE = 'S';
const SPARSE_FLAG_AT = 482;
const SPARSE_BLOCK_FLAG_AT = 504;

/**
 * Yields the parts, a few at a time: views of the chunks of `tar`, whose buffers may be reused for the next ones. Anything after the end of the
 * archive is read and dropped. Throws InvalidTar, or the error of the stream.
 */
export async function* readTarParts(tar: AsyncIterable<Uint8Array>): AsyncGenerator<readonly TarPart[]> {
  const parser = createParser();
  for await (const chunk of tar) {
    const parts = parser.write(chunk);
    if (parts.length > 0) yield parts;
  }
  parser.end();
}

/** The effect of the extended headers before a member. */
interface Extension {
  pax: ReadonlyMap<string, string>;
  longName: string | undefined;
  longLink: string | undefined;
  raw: Uint8Array[];
}

const NO_RECORDS: ReadonlyMap<string, string> = new Map();

function createParser() {
  let pending: Uint8Array = new Uint8Array(0);
  let contentBytes = 0;
  let zeroBlocks = 0;
  let extension = createExtension();

  function write(chunk: Uint8Array): readonly TarPart[] {
    const parts: TarPart[] = [];
    let rest = pending.byteLength > 0 ? Buffer.concat([pending, chunk]) : chunk;
    while (rest.byteLength > 0 && zeroBlocks < 2) {
      const used = contentBytes > 0 ? passContent(rest, parts) : readHeader(rest, parts);
      if (used === 0) break;
      rest = rest.subarray(used);
    }
    // Copied: the buffer of a chunk may be filled again.
    pending = zeroBlocks < 2 ? rest.slice() : new Uint8Array(0);
    return parts;
  }

  function passContent(bytes: Uint8Array, parts: TarPart[]): number {
    const part = bytes.subarray(0, Math.min(bytes.byteLength, contentBytes));
    contentBytes -= part.byteLength;
    parts.push({ kind: 'content', bytes: part });
    return part.byteLength;
  }

  /** Bytes consumed; zero where more input is needed. */
  function readHeader(bytes: Uint8Array, parts: TarPart[]): number {
    if (bytes.byteLength < TAR_BLOCK_BYTES) return 0;
    const block = bytes.subarray(0, TAR_BLOCK_BYTES);
    if (block.every(byte => byte === 0)) {
      zeroBlocks += 1;
      return TAR_BLOCK_BYTES;
    }
    if (zeroBlocks > 0 || !hasTarChecksum(block)) throw new InvalidTar('it has an invalid tar header');
    const type = String.fromCharCode(block[156] ?? 0);
    return /^[xLK]$/.test(type) ? readExtension(type, bytes) : readMember(type, bytes, parts);
  }

  function readExtension(type: string, bytes: Uint8Array): number {
    const size = numberAt(bytes, 124, 12);
    if (size > MAX_EXTENSION_BYTES) throw new InvalidTar(`it has an extended header of ${size} bytes`);
    const end = TAR_BLOCK_BYTES + padded(size);
    if (bytes.byteLength < end) return 0;
    const data = bytes.slice(TAR_BLOCK_BYTES, TAR_BLOCK_BYTES + size);
    if (type === 'x') extension.pax = parseRecords(data);
    else if (type === 'L') extension.longName = textOf(data);
    else extension.longLink = textOf(data);
    extension.raw.push(bytes.slice(0, end));
    return end;
  }

  function readMember(type: string, bytes: Uint8Array, parts: TarPart[]): number {
    const end = type === SPARSE ? endOfSparse(bytes) : TAR_BLOCK_BYTES;
    if (end === 0) return 0;
    const header = bytes.slice(0, end);
    const member = describe(type, header, extension);
    contentBytes = HEADER_ONLY.test(member.type) ? 0 : padded(sizeOf(header, extension.pax));
    extension = createExtension();
    parts.push({ kind: 'member', member });
    return end;
  }

  return {
    write,
    /** Throws InvalidTar for a truncated archive. */
    end(): void {
      const isWhole = pending.byteLength === 0 && contentBytes === 0 && extension.raw.length === 0;
      if (!isWhole) throw new InvalidTar('it is truncated');
    },
  };
}

function createExtension(): Extension {
  return { pax: NO_RECORDS, longName: undefined, longLink: undefined, raw: [] };
}

/** An old GNU sparse file has map blocks after its header. */
function endOfSparse(bytes: Uint8Array): number {
  let end = TAR_BLOCK_BYTES;
  for (
    let goesOn = bytes[SPARSE_FLAG_AT] !== 0;
    goesOn;
    goesOn = bytes[end - TAR_BLOCK_BYTES + SPARSE_BLOCK_FLAG_AT] !== 0
  ) {
    end += TAR_BLOCK_BYTES;
    if (end > MAX_EXTENSION_BYTES) throw new InvalidTar('it has a sparse file with too many parts');
    if (bytes.byteLength < end) return 0;
  }
  return end;
}

function describe(type: string, header: Uint8Array, { pax, longName, longLink, raw }: Extension): TarMember {
  const name = longName ?? (pax.get('GNU.sparse.name') || pax.get('path') || headerName(header));
  return {
    name,
    type: type === '\0' || type === '7' ? (name.endsWith('/') ? '5' : '0') : type,
    linkName: longLink ?? (pax.get('linkpath') || textAt(header, 157, 100)),
    mode: numberAt(header, 100, 8) & 0o7777,
    uid: numberOf(pax.get('uid')) ?? numberAt(header, 108, 8),
    gid: numberOf(pax.get('gid')) ?? numberAt(header, 116, 8),
    mtime: Math.floor(numberOf(pax.get('mtime')) ?? numberAt(header, 136, 12)),
    header,
    pax,
    raw: raw.length === 0 ? header : Buffer.concat([...raw, header]),
  };
}

/** POSIX has a 155-byte name prefix here, the old star format 131 bytes, and GNU uses the bytes for other fields. */
export function prefixLength(header: Uint8Array): number {
  if (textAt(header, 257, 6) !== 'ustar' || header[262] !== 0) return 0;
  return textAt(header, 508, 4) === 'tar' ? 131 : 155;
}

function headerName(header: Uint8Array): string {
  const length = prefixLength(header);
  const prefix = length === 0 ? '' : textAt(header, 345, length);
  const name = textAt(header, 0, 100);
  return prefix === '' ? name : `${prefix}/${name}`;
}

function sizeOf(header: Uint8Array, pax: ReadonlyMap<string, string>): number {
  const size = numberOf(pax.get('size')) ?? numberAt(header, 124, 12);
  if (Number.isSafeInteger(size) && size >= 0) return size;
  throw new InvalidTar('it has a file with an invalid size');
}

function padded(size: number): number {
  return Math.ceil(size / TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES;
}

function textAt(bytes: Uint8Array, start: number, length: number): string {
  return textOf(bytes.subarray(start, start + length));
}

/** Up to the first zero. */
function textOf(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return Buffer.from(bytes.buffer, bytes.byteOffset, end < 0 ? bytes.byteLength : end).toString('latin1');
}

/** Octal or, where the first bit is set, base-256. Anything else is 0, as for most readers. */
function numberAt(bytes: Uint8Array, start: number, length: number): number {
  const first = bytes[start] ?? 0;
  const end = start + length;
  if (first >= 0x80) {
    // None of the fields that we read can be negative.
    if ((first & 0x40) !== 0) return -1;
    return bytes.subarray(start + 1, end).reduce((sum, byte) => sum * 256 + byte, first & 0x3f);
  }
  let at = start;
  while (at < end && (bytes[at] === SPACE || bytes[at] === 0)) at += 1;
  let value = 0;
  for (; at < end; at += 1) {
    const digit = (bytes[at] ?? 0) - ZERO;
    if (digit < 0 || digit > 7) break;
    value = value * 8 + digit;
  }
  return value;
}

function numberOf(text: string | undefined): number | undefined {
  return text === undefined || !/^-?\d+(?:\.\d*)?$/.test(text) ? undefined : Number(text);
}

/** `<length> <key>=<value>\n`, the length counting all of it. */
function parseRecords(data: Uint8Array): ReadonlyMap<string, string> {
  const text = Buffer.from(data).toString('latin1');
  const records = new Map<string, string>();
  for (let at = 0; at < text.length && text[at] !== '\0'; ) {
    const [head = '', digits = ''] = /^(\d{1,7}) /.exec(text.slice(at, at + 8)) ?? [];
    const end = at + Number(digits);
    const record = text.slice(at + head.length, end - 1);
    const equals = record.indexOf('=');
    const isRecord = digits !== '' && end <= text.length && text[end - 1] === '\n' && equals > 0;
    if (!isRecord) throw new InvalidTar('it has an invalid pax header');
    records.set(record.slice(0, equals), record.slice(equals + 1));
    at = end;
  }
  return records;
}
