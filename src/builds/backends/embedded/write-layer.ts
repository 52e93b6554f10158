// Changes as a layer: a sorted tar of fixed form, packed into a file of the build's folder while it is measured.
import { randomUUID } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough, Readable, type Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { constants, createGzip, createZstdCompress } from 'node:zlib';
import { createGauge, type Gauge } from '../../../augment/gauge.ts';
import { streamFile } from '../../../content/file-stream.ts';
import type { ContentDescriptor } from '../../../oci/descriptor.ts';
import type { Digest } from '../../../oci/digest.ts';
import { layerType, type Compression as Packing } from '../../../oci/media-type.ts';
import { bytesOf } from '../../context/bytes.ts';
import { type PackedEntry, packEntries } from '../../context/pack-entries.ts';
import type { Compression } from '../../spec.ts';
import type { Change } from './draft.ts';
import type { Node } from './node.ts';

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

/** The same changes give the same bytes. Throws the error of a body that cannot be read. */
export async function writeLayer(
  changes: readonly Change[],
  { directory, compression, signal }: WriteOptions,
): Promise<Layer> {
  const mode = compression?.mode ?? 'gzip';
  const packing = mode === 'estargz' ? 'gzip' : PACKINGS[mode];
  const path = join(directory, `layer-${randomUUID()}`);
  const [unpacked, packed] = [createGauge(undefined, () => {}), createGauge(undefined, () => {})];
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

async function* measured(bytes: AsyncIterable<Uint8Array>, gauge: Gauge): AsyncGenerator<Uint8Array> {
  for await (const chunk of bytes) {
    gauge.update(chunk);
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
