// Tars as files of an image: the entries of a layer, and the archives that ADD unpacks, plain or compressed with gzip or zstd.
import { Readable } from 'node:stream';
import type { Header } from 'tar-stream';
import { z } from 'zod';
import { createUnpacker, isTarStart, sniffCompression, TAR_BLOCK_BYTES } from '../../../augment/unpack.ts';
import type { Spool } from '../../context/spool.ts';
import { bytesOf, readUnpacked, tarEntries } from '../../context/tar.ts';
import { type ContextLimits, InvalidContext } from '../../context/tree.ts';
import type { Work } from '../../work.ts';
import type { Ownership } from './chown-chmod.ts';
import {
  type Attributes,
  type DirectoryNode,
  emptyDirectory,
  type FileNode,
  findNode,
  followPath,
  formatPath,
  type Leaf,
  type Node,
  type Path,
  type Rootfs,
  splitPath,
} from './file-system.ts';
import { InvalidStep } from './step.ts';

export interface ArchiveEntry {
  readonly path: Path;
  readonly header: Readonly<Header>;
  readonly attributes: Attributes;
  readonly body: AsyncIterable<Uint8Array>;
}

export interface ReadOptions {
  readonly limits: ContextLimits;
  /** Provides the bodies of a layer when one of them is opened. */
  readonly spool: Spool;
  readonly signal: AbortSignal;
  /** For the whole build. */
  readonly work: Work;
}

const MIB = 1024 * 1024;

/** For each layer read from a base, and for each archive that ADD unpacks. */
export const DEFAULT_EMBEDDED_LIMITS: ContextLimits = {
  maxPackedBytes: 8 * 1024 * MIB,
  maxBytes: 16 * 1024 * MIB,
  maxEntries: 500_000,
  maxDepth: 256,
  maxRatio: 400,
  ratioFreeBytes: 256 * MIB,
};

const paxSchema = z.record(z.string(), z.string()).catch({});

const XATTR = 'SCHILY.xattr.';

/**
 * Reads the tar, compressed or not, to its end. Throws InvalidStep, with `what` as the archive's name, for one that is invalid or exceeds a
 * limit.
 */
export async function readArchive(
  body: ReadableStream<Uint8Array>,
  { what, limits }: { readonly what: string; readonly limits: ContextLimits },
  onEntry: (entry: ArchiveEntry) => Promise<void> | void,
): Promise<void> {
  try {
    let count = 0;
    await readUnpacked(body, limits, async tar => {
      for await (const { header, body } of tarEntries(tar)) {
        count += 1;
        if (count > limits.maxEntries) throw new InvalidStep(`${what} has more than ${limits.maxEntries} entries`);
        await onEntry({ path: pathOf(header.name, what, limits), header, attributes: attributesOf(header), body });
      }
    });
  } catch (error) {
    if (!(error instanceof InvalidContext)) throw error;
    throw new InvalidStep(`${what} ${error.message.replace(/^build context: /, 'cannot be read: ')}`, { cause: error });
  }
}

function pathOf(name: string, what: string, { maxDepth }: ContextLimits): Path {
  const path = splitPath(name);
  if (path.length <= maxDepth) return path;
  throw new InvalidStep(`${what} has directories deeper than ${maxDepth}`);
}

function attributesOf(header: Readonly<Header>): Attributes {
  const pax = paxSchema.parse(header.pax ?? {});
  const xattrs = Object.fromEntries(Object.entries(pax).filter(([key]) => key.startsWith(XATTR)));
  return {
    mode: (header.mode ?? 0) & 0o7777,
    uid: numberOf(pax.uid) ?? header.uid ?? 0,
    gid: numberOf(pax.gid) ?? header.gid ?? 0,
    mtime: Math.trunc((header.mtime?.getTime() ?? 0) / 1000),
    xattrs,
  };
}

function numberOf(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,10}$/.test(text) ? Number(text) : undefined;
}

/** The node of an entry; undefined for hard links and anything that is not a file. `open` opens a file. */
export function toNode(
  { header, attributes, path }: ArchiveEntry,
  open: () => AsyncIterable<Uint8Array>,
): Node | undefined {
  switch (header.type) {
    case 'directory':
      return { ...emptyDirectory, ...attributes };
    case 'file':
    case 'contiguous-file':
      return header.name.endsWith('/')
        ? { ...emptyDirectory, ...attributes }
        : { ...attributes, kind: 'file', size: header.size, open };
    case 'symlink':
      return { ...attributes, kind: 'symlink', mode: 0o777, target: header.linkname ?? '' };
    case 'character-device':
    case 'block-device':
    case 'fifo':
      return toDevice(header.type, header, attributes);
    case 'link':
      throw new InvalidStep(`${formatPath(path)} is a hard link to a file that does not exist`);
    default:
      return undefined;
  }
}

function toDevice(
  kind: 'character-device' | 'block-device' | 'fifo',
  header: Readonly<Header>,
  attributes: Attributes,
): Leaf {
  return { ...attributes, kind, major: header.devmajor ?? 0, minor: header.devminor ?? 0 };
}

/** The magic bytes of archives that others can unpack. */
const FOREIGN: readonly { readonly name: string; readonly magic: readonly number[] }[] = [
  { name: 'bzip2', magic: [0x42, 0x5a, 0x68] },
  { name: 'xz', magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00] },
];

/** The file, if it is an archive; undefined for any other. Throws InvalidStep for an unsupported archive. */
export async function findArchive(root: DirectoryNode, path: Path): Promise<FileNode | undefined> {
  const node = findNode(root, followPath(root, path));
  if (node?.kind !== 'file' || node.size === 0) return undefined;
  const head = await readStart(node.open(), TAR_BLOCK_BYTES);
  const foreign = FOREIGN.find(({ magic }) => magic.every((byte, i) => head[i] === byte));
  if (foreign) {
    throw new InvalidStep(
      `${formatPath(path)} is compressed with ${foreign.name}, which the embedded builder cannot unpack; use gzip or zstd`,
    );
  }
  const compression = sniffCompression(head);
  const start = compression === 'none' ? head : await readPackedStart(node, compression);
  return start.some(byte => byte !== 0) && isTarStart(start) ? node : undefined;
}

async function readPackedStart(file: FileNode, compression: 'gzip' | 'zstd'): Promise<Uint8Array> {
  const unpacker = createUnpacker(compression).stream;
  const source = Readable.from(file.open());
  source.on('error', error => unpacker.destroy(error));
  source.pipe(unpacker);
  try {
    return await readStart(bytesOf(unpacker), TAR_BLOCK_BYTES);
  } catch {
    // A file that only looks like a compressed archive is copied like any other.
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

/** Unpacks into an existing directory. Throws InvalidStep. */
export async function unpackArchive(
  rootfs: Rootfs,
  target: Path,
  {
    archive,
    chown,
    reading,
  }: {
    readonly archive: FileNode;
    /** The owner of everything in it; undefined: as recorded in the archive. */
    readonly chown: Ownership | undefined;
    readonly reading: ReadOptions;
  },
): Promise<void> {
  const { limits, spool, signal } = reading;
  const body = ReadableStream.from(archive.open());
  await readArchive(body, { what: 'the archive', limits }, async entry => {
    signal.throwIfAborted();
    const open = await spool.append(entry.body);
    placeEntry(rootfs, target, { entry, open, chown });
  });
}

interface Placed {
  readonly entry: ArchiveEntry;
  readonly open: () => AsyncIterable<Uint8Array>;
  readonly chown: Ownership | undefined;
}

function placeEntry(rootfs: Rootfs, target: Path, { entry, open, chown }: Placed): void {
  const { header, path } = entry;
  const node = header.type === 'link' ? findLinked(rootfs, target, entry) : toNode(entry, open);
  const name = path.at(-1);
  if (!node || name === undefined) return;
  const parent = followPath(rootfs.root, [...target, ...path.slice(0, -1)]);
  rootfs.makeDirectories(parent, {});
  const fullPath = [...parent, name];
  const before = findNode(rootfs.root, fullPath);
  if (before && (before.kind !== 'directory' || node.kind !== 'directory')) rootfs.remove(fullPath);
  rootfs.put(fullPath, { ...node, ...chown });
}

function findLinked(rootfs: Rootfs, target: Path, { header, path }: ArchiveEntry): Node {
  const linked = findNode(rootfs.root, [...target, ...splitPath(header.linkname ?? '')]);
  if (linked && linked.kind !== 'directory') return linked;
  throw new InvalidStep(`the archive has a hard link ${formatPath(path)} to a file that does not exist`);
}
