// Layers as in image-spec layer.md: read into the file system of an image, where bodies stay compressed until one of the layer is needed,
// and written from changes, as a sorted tar of fixed form that is compressed into a file of the build's folder while it is measured.
import { randomUUID } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough, Readable, type Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { constants, createGzip, createZstdCompress } from 'node:zlib';
import { createSizedDigester, type SizedDigester } from '../../../augment/layer.ts';
import { streamFile } from '../../../content/byte-stream.ts';
import type { ContentDescriptor } from '../../../oci/descriptor.ts';
import type { Digest } from '../../../oci/digest.ts';
import { layerType, type Compression as Packing } from '../../../oci/media-type.ts';
import { bytesOf, type PackedEntry, packEntries } from '../../context/tar.ts';
import type { Compression } from '../../spec.ts';
import type { Work } from '../../work.ts';
import { type ArchiveEntry, type ReadOptions, readArchive, toNode } from './archive.ts';
import {
  type Change,
  createRootfs,
  type DirectoryNode,
  emptyDirectory,
  findNode,
  followPath,
  formatPath,
  type Node,
  type Path,
  type Rootfs,
} from './file-system.ts';
import { InvalidStep } from './step.ts';

interface PackedLayer {
  /** Its name in messages: the digest. */
  readonly name: string;
  readonly open: () => Promise<ReadableStream<Uint8Array>>;
}

type Bodies = ReadonlyMap<number, () => AsyncIterable<Uint8Array>>;

const OPAQUE = '.wh..wh..opq';

const WHITEOUT = '.wh.';

/** Throws InvalidStep for a layer that is not a tar or exceeds a limit, and the error of a broken body. */
export async function readLayers(layers: readonly PackedLayer[], options: ReadOptions): Promise<DirectoryNode> {
  const rootfs = createRootfs(emptyDirectory);
  for (const layer of layers) await applyLayer(rootfs, layer, options);
  return rootfs.root;
}

async function applyLayer(rootfs: Rootfs, layer: PackedLayer, options: ReadOptions): Promise<void> {
  let bodies: Promise<Bodies> | undefined;
  const written = new Set<string>();
  let index = 0;

  async function* openBody(at: number): AsyncGenerator<Uint8Array> {
    bodies ??= spoolBodies(layer, options);
    const open = (await bodies).get(at);
    if (open) yield* open();
  }

  const { limits, signal, work } = options;
  await readArchive(await layer.open(), { what: `the layer ${layer.name}`, limits }, async entry => {
    signal.throwIfAborted();
    const at = index++;
    applyEntry(rootfs, entry, { written, open: () => openBody(at), work });
    await work.rest();
  });
}

async function spoolBodies(layer: PackedLayer, { limits, spool, signal }: ReadOptions): Promise<Bodies> {
  const bodies = new Map<number, () => AsyncIterable<Uint8Array>>();
  let index = 0;
  await readArchive(await layer.open(), { what: `the layer ${layer.name}`, limits }, async ({ header, body }) => {
    signal.throwIfAborted();
    const at = index++;
    if (header.size > 0 && header.type?.endsWith('file')) bodies.set(at, await spool.append(body));
  });
  return bodies;
}

interface Applied {
  /** Paths written by this layer: its own whiteouts do not remove them. */
  readonly written: Set<string>;
  readonly open: () => AsyncIterable<Uint8Array>;
  readonly work: Work;
}

function applyEntry(rootfs: Rootfs, entry: ArchiveEntry, { written, open, work }: Applied): void {
  const name = entry.path.at(-1);
  if (name === undefined) return;
  const parent = followPath(rootfs.root, entry.path.slice(0, -1));
  if (name === OPAQUE) removeChildren(rootfs, parent, { written, work });
  else if (name.startsWith(WHITEOUT)) removeHidden(rootfs, [...parent, name.slice(WHITEOUT.length)], written);
  else {
    const node = entry.header.type === 'link' ? findLinked(rootfs, entry) : toNode(entry, open);
    if (!node) return;
    const path = [...parent, name];
    rootfs.makeDirectories(parent, {});
    rootfs.put(path, node);
    for (let length = path.length; length > 0; length -= 1) written.add(path.slice(0, length).join('/'));
  }
}

function removeHidden(rootfs: Rootfs, path: Path, written: ReadonlySet<string>): void {
  if (!written.has(path.join('/')) && findNode(rootfs.root, path)) rootfs.remove(path);
}

function removeChildren(rootfs: Rootfs, path: Path, { written, work }: Pick<Applied, 'written' | 'work'>): void {
  const node = findNode(rootfs.root, path);
  if (node?.kind !== 'directory') return;
  work.spend(node.children.size);
  for (const [name, child] of [...node.children]) {
    const below = [...path, name];
    if (!written.has(below.join('/'))) rootfs.remove(below);
    else if (child.kind === 'directory') removeChildren(rootfs, below, { written, work });
  }
}

/** Hard links become separate files with the same bytes. */
function findLinked(rootfs: Rootfs, { header, path }: ArchiveEntry): Node {
  const target = findNode(rootfs.root, followTarget(rootfs, header.linkname ?? ''));
  if (target && target.kind !== 'directory') return target;
  throw new InvalidStep(`${formatPath(path)} is a hard link to a file that does not exist`);
}

function followTarget(rootfs: Rootfs, name: string): Path {
  const path = name.split('/').filter(component => component !== '' && component !== '.');
  return [...followPath(rootfs.root, path.slice(0, -1)), ...path.slice(-1)];
}

export interface Layer {
  readonly descriptor: ContentDescriptor;
  readonly diffId: Digest;
  readonly open: () => Promise<ReadableStream<Uint8Array>>;
}

export interface WriteOptions {
  readonly directory: string;
  readonly compression: Compression | undefined;
  readonly signal: AbortSignal;
}

const PACKINGS: Readonly<Record<Exclude<Compression['mode'], 'estargz'>, Packing>> = {
  gzip: 'gzip',
  zstd: 'zstd',
  uncompressed: 'none',
};

/** Larger ids do not fit into a plain header. */
const MAX_HEADER_ID = 0o7777777;

/** The same changes give the same bytes. Throws the error of an unreadable body. */
export async function writeLayer(
  changes: readonly Change[],
  { directory, compression, signal }: WriteOptions,
): Promise<Layer> {
  const mode = compression?.mode ?? 'gzip';
  const packing = mode === 'estargz' ? 'gzip' : PACKINGS[mode];
  const path = join(directory, `layer-${randomUUID()}`);
  const [unpacked, packed] = [createSizedDigester(undefined, () => {}), createSizedDigester(undefined, () => {})];
  await pipeline(
    Readable.from(measured(packEntries(changes.map(toEntry)), unpacked)),
    createPacker(packing, compression?.level),
    source => measured(bytesOf(source), packed),
    createWriteStream(path, { flags: 'wx', mode: 0o600 }),
    { signal },
  );
  const descriptor = { mediaType: layerType('oci', packing) ?? '', digest: packed.digest(), size: packed.size };
  return {
    descriptor,
    diffId: unpacked.digest(),
    open: async () => streamFile(await open(path), { start: 0, end: descriptor.size }),
  };
}

function createPacker(packing: Packing, level: number | undefined): Transform {
  if (packing === 'none') return new PassThrough();
  if (packing === 'gzip') return createGzip(level === undefined ? {} : { level });
  const params = level ? { [constants.ZSTD_c_compressionLevel]: level } : {};
  return createZstdCompress({ params });
}

async function* measured(bytes: AsyncIterable<Uint8Array>, digester: SizedDigester): AsyncGenerator<Uint8Array> {
  for await (const chunk of bytes) {
    digester.update(chunk);
    yield chunk;
  }
}

function toEntry({ path, node }: Change): PackedEntry {
  const header = headerOf(path.join('/'), node);
  return node.kind === 'file' ? { header, open: () => node.open() } : { header };
}

function headerOf(name: string, node: Node): PackedEntry['header'] {
  const { mode, uid, gid, xattrs, mtime } = node;
  const large = { ...(uid > MAX_HEADER_ID && { uid: `${uid}` }), ...(gid > MAX_HEADER_ID && { gid: `${gid}` }) };
  const pax = { ...xattrs, ...large };
  const common = {
    name,
    mode,
    uid,
    gid,
    mtime: new Date(mtime * 1000),
    ...(Object.keys(pax).length > 0 && { pax }),
  };
  switch (node.kind) {
    case 'directory':
      return { ...common, name: `${name}/`, type: 'directory' };
    case 'symlink':
      return { ...common, type: 'symlink', linkname: node.target };
    case 'file':
      return { ...common, type: 'file', size: node.size };
    default:
      return { ...common, type: node.kind, devmajor: node.major, devminor: node.minor };
  }
}
