// A layer whose entries were moved to follow the links of an image: the same members in the same order under other names, with their bytes
// unchanged. Always a plain tar, so that its digest does not depend on the version of a compressor: equal layers moved equally are
// identical on any machine at any time.
import { type DirectoryAttributes, entriesOf, type LayerIndex, normalizePath } from './layer-index.ts';
import { createMapper, type Mapper, type Placement, readable } from './placement.ts';
import { prefixLength, readTarParts, type TarMember } from './tar-members.ts';
import { TAR_BLOCK_BYTES } from './unpack.ts';
import { type UnpackLimits, unpackLayer } from './unpack-layer.ts';

/** The tar of the layer with its entries moved. Throws InvalidTar, or the error of `tar`. */
export async function* moveLayer(tar: AsyncIterable<Uint8Array>, placement: Placement): AsyncGenerator<Uint8Array> {
  const mapper = createMapper(placement);
  for (const { path, ...attributes } of placement.directories) yield encodeDirectory(path, attributes);
  for await (const parts of readTarParts(tar)) {
    const chunks = parts.flatMap(part => (part.kind === 'content' ? part.bytes : moveMember(part.member, mapper)));
    if (chunks.length > 0) yield chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks);
  }
  yield new Uint8Array(2 * TAR_BLOCK_BYTES);
}

/** The same as a stream, whatever the compression of the layer. It is read to its end or cancelled; breaks with UnreadableLayer. */
export function openMovedLayer(
  body: ReadableStream<Uint8Array>,
  placement: Placement,
  limits: UnpackLimits,
): ReadableStream<Uint8Array> {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const unpacked = unpackLayer(body, { limits }, tar =>
    ReadableStream.from(moveLayer(tar, placement)).pipeTo(writable, { preventAbort: true }),
  );
  unpacked.catch(error => writable.abort(error).catch(() => {}));
  return readable;
}

/** One move, in readable form. */
export interface MovedEntry {
  readonly from: string;
  readonly to: string;
}

/** The first moved entries, and the total number. */
export function listMoved(
  index: LayerIndex,
  placement: Placement,
  max: number,
): { readonly entries: readonly MovedEntry[]; readonly count: number } {
  const mapper = createMapper(placement);
  const entries: MovedEntry[] = [];
  let count = 0;
  for (const { path, kind } of entriesOf(index)) {
    const to = mapper.map(path, kind);
    if (to === undefined || to === path) continue;
    count += 1;
    if (entries.length < max) entries.push({ from: readable(path), to: readable(to) });
  }
  return { entries, count };
}

/** Its headers; empty where the image already has the directory. */
function moveMember(member: TarMember, mapper: Mapper): readonly Uint8Array[] {
  if (member.type === 'g') return [member.raw];
  const path = normalizePath(member.name);
  const isDirectory = member.type === '5';
  const moved = path === '' ? '' : mapper.map(path, isDirectory ? 'directory' : 'file');
  if (moved === undefined) return [];
  // A hard link names another member; a symlink is resolved in the container.
  const linked = member.type === '1' ? normalizePath(member.linkName) : undefined;
  const movedLink = linked === undefined ? undefined : mapper.map(linked, 'file');
  if (moved === path && movedLink === linked) return [member.raw];
  return [encodeMember(member, isDirectory ? `${moved}/` : moved, movedLink ?? member.linkName)];
}

const NAME_BYTES = 100;
const MOVED_RECORDS = ['path', 'linkpath', 'GNU.sparse.name'];

function encodeMember({ header, pax }: TarMember, name: string, linkName: string): Uint8Array {
  const records = new Map([...pax].filter(([key]) => !MOVED_RECORDS.includes(key)));
  if (name.length > NAME_BYTES) records.set('path', name);
  if (linkName.length > NAME_BYTES) records.set('linkpath', linkName);
  // The map of such a file is at the start of its content, and readers take the name from here.
  if (pax.has('GNU.sparse.name')) records.set('GNU.sparse.name', name);
  const moved = Buffer.from(header);
  const prefix = prefixLength(header);
  if (prefix > 0) moved.fill(0, 345, 345 + prefix);
  writeText(moved, 0, NAME_BYTES, name);
  writeText(moved, 157, NAME_BYTES, linkName);
  return withRecords(records, moved);
}

function encodeDirectory(path: string, { mode, uid, gid, mtime }: DirectoryAttributes): Uint8Array {
  const name = `${path}/`;
  const records = new Map<string, string>();
  if (name.length > NAME_BYTES) records.set('path', name);
  const header = createHeader('5', name, 0);
  writeOctal(header, 100, 8, mode);
  for (const [key, at, length, value] of [
    ['uid', 108, 8, uid],
    ['gid', 116, 8, gid],
    ['mtime', 136, 12, mtime],
  ] as const) {
    if (value < 8 ** (length - 1)) writeOctal(header, at, length, value);
    else records.set(key, String(value));
  }
  return withRecords(records, header);
}

function withRecords(records: ReadonlyMap<string, string>, header: Buffer): Uint8Array {
  writeChecksum(header);
  if (records.size === 0) return header;
  const data = Buffer.from([...records].map(encodeRecord).join(''), 'latin1');
  const extension = createHeader('x', 'PaxHeaders/moved', data.byteLength);
  writeChecksum(extension);
  const padding = (TAR_BLOCK_BYTES - (data.byteLength % TAR_BLOCK_BYTES)) % TAR_BLOCK_BYTES;
  return Buffer.concat([extension, data, Buffer.alloc(padding), header]);
}

function encodeRecord([key, value]: readonly [string, string]): string {
  const rest = ` ${key}=${value}\n`;
  const length = rest.length + String(rest.length).length;
  return `${String(length).length + rest.length}${rest}`;
}

function createHeader(type: string, name: string, size: number): Buffer {
  const header = Buffer.alloc(TAR_BLOCK_BYTES);
  writeText(header, 0, NAME_BYTES, name);
  for (const [at, length] of [
    [108, 8],
    [116, 8],
    [136, 12],
  ] as const)
    writeOctal(header, at, length, 0);
  writeOctal(header, 100, 8, 0o644);
  writeOctal(header, 124, 12, size);
  header.write(`${type}`, 156, 'latin1');
  header.write('ustar\x0000', 257, 'latin1');
  return header;
}

/** Longer names go into a pax record; this truncated one is for readers that ignore pax. */
function writeText(header: Buffer, at: number, length: number, text: string): void {
  header.fill(0, at, at + length);
  header.write(text.slice(0, length), at, 'latin1');
}

function writeOctal(header: Buffer, at: number, length: number, value: number): void {
  header.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at, 'latin1');
}

function writeChecksum(header: Buffer): void {
  const block = header.subarray(0, TAR_BLOCK_BYTES);
  block.fill(0x20, 148, 156);
  const sum = block.reduce((all, byte) => all + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
}
