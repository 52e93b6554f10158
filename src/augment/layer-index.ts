// The index of a layer: its names, what each of them is, and where its links lead, without any file content. Computed in one pass over the
// layer, in flat memory apart from the index itself, and immutable for a digest: with it, the layer need not be read again. Names are paths
// from the root, such as `usr/bin/sh`: no slash at either end, no `.` or `..`. They are bytes, one character for each (latin1).
import { promisify } from 'node:util';
import { zstdCompress, zstdDecompress } from 'node:zlib';
import { readTarParts, type TarMember } from './tar-members.ts';
import { type UnpackLimits, UnreadableLayer, unpackLayer } from './unpack-layer.ts';

/** Of a directory, from its own tar member. */
export interface DirectoryAttributes {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** In seconds. */
  readonly mtime: number;
}

/**
 * The effect of a member on the layers below and above. A whiteout hides a name of the layers below, an opaque directory everything they
 * have in it. Anything that is neither a directory nor a symlink counts as a file, hard links and devices included.
 */
export type IndexEntry = { readonly path: string } & (
  | { readonly kind: 'file' | 'whiteout' | 'opaque' }
  | { readonly kind: 'link'; readonly target: string }
  | { readonly kind: 'directory'; readonly attributes: DirectoryAttributes }
);

/** In tar order. Names may repeat: the last one counts. Parent directories need not have a member of their own. */
export interface LayerIndex {
  /** See `entriesOf`. */
  readonly coded: Uint8Array;
}

export interface IndexLimits extends UnpackLimits {
  /** Members of the layer. */
  readonly maxEntries: number;
}

/** Size limit of the encoded entries: all names and targets together. */
const MAX_CODED_BYTES = 64 * 1024 * 1024;
const WHITEOUT = '.wh.';
const OPAQUE = '.wh..wh..opq';

/**
 * Reads `body` to its end, or cancels it. A layer that does not start as a tar has no names: engines cannot apply it either. Throws
 * UnreadableLayer, the body's own error when that breaks, or the reason of the signal.
 */
export async function indexLayer(
  body: ReadableStream<Uint8Array>,
  limits: IndexLimits,
  signal?: AbortSignal,
): Promise<LayerIndex> {
  const writer = createWriter(limits.maxEntries);
  await unpackLayer(body, { limits, signal, reusesBuffer: true }, async tar => {
    for await (const parts of readTarParts(tar)) {
      for (const part of parts) if (part.kind === 'member') addMember(writer, part.member);
    }
  });
  return writer.finish();
}

function addMember(writer: Writer, member: TarMember): void {
  // Engines ignore global headers.
  if (member.type === 'g') return;
  const path = normalizePath(member.name);
  const slash = path.lastIndexOf('/');
  const [parent, name] = [path.slice(0, Math.max(0, slash)), path.slice(slash + 1)];
  if (path === '') return;
  if (name === OPAQUE) writer.add({ kind: 'opaque', path: parent });
  // AUFS metadata of the layer itself: engines do not unpack it.
  else if ([path, name].some(each => each.startsWith(`${WHITEOUT}${WHITEOUT}`))) return;
  else if (name.startsWith(WHITEOUT))
    writer.add({ kind: 'whiteout', path: joinPath(parent, name.slice(WHITEOUT.length)) });
  else if (member.type === '2') writer.add({ kind: 'link', path, target: member.linkName });
  else if (member.type !== '5') writer.add({ kind: 'file', path });
  else writer.add({ kind: 'directory', path, attributes: attributesOf(member) });
}

function attributesOf({ mode, uid, gid, mtime }: TarMember): DirectoryAttributes {
  const bounded = (value: number) => Math.min(Math.max(0, value), Number.MAX_SAFE_INTEGER);
  return { mode, uid: bounded(uid), gid: bounded(gid), mtime: bounded(mtime) };
}

/** A name as engines resolve it: from the root, and never above it. The root itself is empty. */
export function normalizePath(name: string): string {
  if (!/^\.{0,2}\/|\/\.{0,2}(?:\/|$)|^\.{0,2}$/.test(name)) return name;
  const parts: string[] = [];
  for (const part of name.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  return parts.join('/');
}

export function joinPath(parent: string, name: string): string {
  return parent === '' ? name : `${parent}/${name}`;
}

/** Empty for entries of the root. */
export function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')));
}

const KINDS = ['file', 'directory', 'link', 'whiteout', 'opaque'] as const;
const FIRST_BYTES = 64 * 1024;

interface Writer {
  add(entry: IndexEntry): void;
  finish(): LayerIndex;
}

/**
 * Each entry is the number of its kind, the length of the prefix shared with the previous path, and the rest of it; then the target of a
 * link, or the attributes of a directory. Numbers take seven bits a byte, lowest first, and strings start with their length.
 */
function createWriter(maxEntries: number): Writer {
  let coded = Buffer.allocUnsafe(FIRST_BYTES);
  let size = 0;
  let entries = 0;
  let last = '';

  function reserve(bytes: number): void {
    if (size + bytes > MAX_CODED_BYTES) throw new UnreadableLayer(`its names have more than ${MAX_CODED_BYTES} bytes`);
    if (size + bytes <= coded.byteLength) return;
    const larger = Buffer.allocUnsafe(Math.max(coded.byteLength * 2, size + bytes));
    coded.copy(larger, 0, 0, size);
    coded = larger;
  }

  function addNumber(value: number): void {
    reserve(10);
    let rest = value;
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) coded[size++] = (rest % 0x80) | 0x80;
    coded[size++] = rest;
  }

  function addText(text: string): void {
    addNumber(text.length);
    reserve(text.length);
    size += coded.write(text, size, 'latin1');
  }

  return {
    add(entry) {
      entries += 1;
      if (entries > maxEntries) throw new UnreadableLayer(`it has more than ${maxEntries} entries`);
      const shared = sharedLength(last, entry.path);
      addNumber(KINDS.indexOf(entry.kind));
      addNumber(shared);
      addText(entry.path.slice(shared));
      if (entry.kind === 'link') addText(entry.target);
      if (entry.kind === 'directory') {
        const { mode, uid, gid, mtime } = entry.attributes;
        for (const value of [mode, uid, gid, mtime]) addNumber(value);
      }
      last = entry.path;
    },
    finish: () => ({ coded: Buffer.from(coded.subarray(0, size)) }),
  };
}

function sharedLength(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  let at = 0;
  while (at < length && a.charCodeAt(at) === b.charCodeAt(at)) at += 1;
  return at;
}

/** All entries, in tar order. */
export function* entriesOf({ coded }: LayerIndex): Generator<IndexEntry> {
  const bytes = Buffer.from(coded.buffer, coded.byteOffset, coded.byteLength);
  let at = 0;
  let path = '';

  function readNumber(): number {
    let value = 0;
    for (let factor = 1; ; factor *= 0x80) {
      const byte = bytes[at++] ?? 0;
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
    }
  }

  function readText(): string {
    const length = readNumber();
    at += length;
    return bytes.toString('latin1', at - length, at);
  }

  while (at < bytes.byteLength) {
    const kind = KINDS[readNumber()];
    path = path.slice(0, readNumber()) + readText();
    if (kind === 'link') yield { kind, path, target: readText() };
    else if (kind === 'directory') {
      const [mode, uid, gid, mtime] = [readNumber(), readNumber(), readNumber(), readNumber()];
      yield { kind, path, attributes: { mode, uid, gid, mtime } };
    } else if (kind) yield { kind, path };
  }
}

/** Whether the layer has a directory, explicit or implied: without one it only touches the root. */
export function hasDirectories(index: LayerIndex): boolean {
  for (const { kind, path } of entriesOf(index)) {
    if (kind === 'directory' || path.includes('/')) return true;
  }
  return false;
}

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

/** Serialised form. Other versions of Veneer do not accept it. */
const VERSION = 1;

export async function packIndex({ coded }: LayerIndex): Promise<Uint8Array> {
  return Buffer.concat([Buffer.from([VERSION]), await compress(coded)]);
}

/** Undefined for data written by another version. */
export async function unpackIndex(packed: Uint8Array): Promise<LayerIndex | undefined> {
  if (packed[0] !== VERSION) return undefined;
  return { coded: await decompress(packed.subarray(1), { maxOutputLength: MAX_CODED_BYTES }) };
}
