// Archives that ADD unpacks: tars, plain or packed with gzip or zstd.
import { Readable } from 'node:stream';
import { createUnpacker, isTarStart, sniffCompression, TAR_BLOCK_BYTES } from '../../../augment/unpack.ts';
import { bytesOf } from '../../context/bytes.ts';
import { type ArchiveEntry, readArchive, toNode } from './archive.ts';
import type { Draft } from './draft.ts';
import type { DirectoryNode, FileNode, Node } from './node.ts';
import type { Owner } from './owner.ts';
import { findNode, followPath, formatPath, type Path, splitPath } from './path.ts';
import type { ReadOptions } from './read-layers.ts';
import { InvalidStep } from './step.ts';

/** How archives begin that others can unpack. */
const FOREIGN: readonly { readonly name: string; readonly magic: readonly number[] }[] = [
  { name: 'bzip2', magic: [0x42, 0x5a, 0x68] },
  { name: 'xz', magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00] },
];

/** The file, if it is an archive; undefined for any other. Throws InvalidStep for one that we cannot unpack. */
export async function findArchive(root: DirectoryNode, path: Path): Promise<FileNode | undefined> {
  const node = findNode(root, followPath(root, path));
  if (node?.kind !== 'file' || node.size === 0) return undefined;
  const head = await readStart(node.open(), TAR_BLOCK_BYTES);
  const foreign = FOREIGN.find(({ magic }) => magic.every((byte, i) => head[i] === byte));
  if (foreign) {
    throw new InvalidStep(
      `${formatPath(path)} is packed with ${foreign.name}, which the embedded builder cannot unpack; use gzip or zstd`,
    );
  }
  const compression = sniffCompression(head);
  const start = compression === 'none' ? head : await readPackedStart(node, compression);
  return start.some(byte => byte !== 0) && isTarStart(start) ? node : undefined;
}

interface UnpackOptions {
  readonly archive: FileNode;
  /** Of all that is in it; undefined: as it says itself. */
  readonly owner: Owner | undefined;
  readonly reading: ReadOptions;
}

/** Unpacks into a directory that is there. Throws InvalidStep. */
export async function unpackArchive(
  draft: Draft,
  target: Path,
  { archive, owner, reading }: UnpackOptions,
): Promise<void> {
  const { limits, spool, signal } = reading;
  const body = ReadableStream.from(archive.open());
  await readArchive(body, { what: 'the archive', limits }, async entry => {
    signal.throwIfAborted();
    const open = await spool.append(entry.body);
    placeEntry(draft, target, { entry, open, owner });
  });
}

interface Placed {
  readonly entry: ArchiveEntry;
  readonly open: () => AsyncIterable<Uint8Array>;
  readonly owner: Owner | undefined;
}

function placeEntry(draft: Draft, target: Path, { entry, open, owner }: Placed): void {
  const { header, path } = entry;
  const node = header.type === 'link' ? findLinked(draft, target, entry) : toNode(entry, open);
  const name = path.at(-1);
  if (!node || name === undefined) return;
  const parent = followPath(draft.root, [...target, ...path.slice(0, -1)]);
  draft.makeDirectories(parent, {});
  const place = [...parent, name];
  const before = findNode(draft.root, place);
  if (before && (before.kind !== 'directory' || node.kind !== 'directory')) draft.remove(place);
  draft.put(place, { ...node, ...owner });
}

function findLinked(draft: Draft, target: Path, { header, path }: ArchiveEntry): Node {
  const linked = findNode(draft.root, [...target, ...splitPath(header.linkname ?? '')]);
  if (linked && linked.kind !== 'directory') return linked;
  throw new InvalidStep(`the archive has a hard link ${formatPath(path)} to what is not there`);
}

async function readPackedStart(file: FileNode, compression: 'gzip' | 'zstd'): Promise<Uint8Array> {
  const unpacker = createUnpacker(compression).stream;
  const source = Readable.from(file.open());
  source.on('error', error => unpacker.destroy(error));
  source.pipe(unpacker);
  try {
    return await readStart(bytesOf(unpacker), TAR_BLOCK_BYTES);
  } catch {
    // What only looks like a packed file is a file like others.
    return new Uint8Array(0);
  } finally {
    source.destroy();
    unpacker.destroy();
  }
}

async function readStart(bytes: AsyncIterable<Uint8Array>, length: number): Promise<Uint8Array> {
  let start: Uint8Array = new Uint8Array(0);
  for await (const chunk of bytes) {
    start = Buffer.concat([start, chunk]);
    if (start.byteLength >= length) break;
  }
  return start.subarray(0, length);
}
