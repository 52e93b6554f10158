// An image as an engine sees it: its configuration without what says nothing, and the files of all layers on top of each other.
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { extract, type Header } from 'tar-stream';
import { z } from 'zod';
import { bytesOf } from '../../src/builds/context/tar.ts';
import type { ContentDescriptor } from '../../src/oci/descriptor.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { type ImageManifest, parseManifest } from '../../src/oci/manifest.ts';
import { formatPlatform, normalizePlatform } from '../../src/oci/platform.ts';
import type { Read } from './oracle.ts';

interface FlatFile {
  readonly type: string;
  readonly mode: string;
  readonly owner: string;
  readonly link?: string;
  readonly digest?: string;
  readonly device?: string;
}

export interface FlatImage {
  readonly platform: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly files: Readonly<Record<string, FlatFile>>;
  /** How many layers there are. */
  readonly layers: number;
  /** Of the history that made no layer, and of all. */
  readonly history: readonly { readonly isEmpty: boolean }[];
}

/** What does not fit into a header. */
const paxSchema = z.looseObject({ uid: z.string().optional(), gid: z.string().optional() });

const configSchema = z.object({
  os: z.string(),
  architecture: z.string(),
  variant: z.string().optional(),
  config: z.record(z.string(), z.unknown()).default({}),
  history: z.array(z.object({ empty_layer: z.boolean().default(false) })).default([]),
});

/** All images below the root, but attestations, in their order. */
export async function flattenImages(root: ContentDescriptor, read: Read): Promise<readonly FlatImage[]> {
  const manifest = parseManifest(await read(root), root.mediaType);
  if (manifest.kind === 'index') {
    const entries = manifest.manifests.filter(({ platform }) => platform?.os !== 'unknown');
    return (await Promise.all(entries.map(entry => flattenImages(entry, read)))).flat();
  }
  return manifest.kind === 'image' ? [await flattenImage(manifest, read)] : [];
}

async function flattenImage(manifest: ImageManifest, read: Read): Promise<FlatImage> {
  const raw = await read(manifest.config);
  const { config, history, ...platform } = configSchema.parse(JSON.parse(new TextDecoder().decode(raw)));
  const files = new Map<string, FlatFile>();
  for (const layer of manifest.layers) await applyLayer(files, unpack(await read(layer)));
  return {
    platform: formatPlatform(normalizePlatform(platform)),
    config: Object.fromEntries(
      Object.entries(config).filter(([key, value]) => key !== 'ArgsEscaped' && saysSomething(value)),
    ),
    files: Object.fromEntries([...files].sort(([a], [b]) => (a < b ? -1 : 1))),
    layers: manifest.layers.length,
    history: history.map(({ empty_layer }) => ({ isEmpty: empty_layer })),
  };
}

function saysSomething(value: unknown): boolean {
  return !(
    value === null ||
    value === '' ||
    value === false ||
    (typeof value === 'object' && Object.keys(value).length === 0)
  );
}

async function applyLayer(files: Map<string, FlatFile>, tar: Uint8Array): Promise<void> {
  const own = new Set<string>();
  const archive = extract();
  archive.end(tar);
  for await (const entry of archive) {
    const chunks: Uint8Array[] = [];
    for await (const chunk of bytesOf(entry)) chunks.push(chunk);
    apply(files, own, { header: entry.header, content: Buffer.concat(chunks) });
  }
}

function apply(
  files: Map<string, FlatFile>,
  own: Set<string>,
  { header, content }: { header: Header; content: Uint8Array },
): void {
  const path = header.name.replace(/^(?:\.?\/)+/, '').replace(/\/$/, '');
  if (path === '' || path === '.') return;
  const [, parent = '', name = ''] = /^(.*?)([^/]*)$/.exec(path) ?? [];
  if (name === '.wh..wh..opq') remove(files, parent, own);
  else if (name.startsWith('.wh.')) {
    const hidden = `${parent}${name.slice(4)}`;
    files.delete(hidden);
    remove(files, `${hidden}/`, new Set());
  } else {
    if (header.type !== 'directory') remove(files, `${path}/`, new Set());
    files.set(path, header.type === 'link' ? linked(files, header) : toFile(header, content));
    own.add(path);
  }
}

function linked(files: ReadonlyMap<string, FlatFile>, { name, linkname }: Header): FlatFile {
  const file = files.get((linkname ?? '').replace(/^(?:\.?\/)+/, ''));
  if (file) return file;
  throw new Error(`${name} is linked to nothing`);
}

function remove(files: Map<string, FlatFile>, prefix: string, kept: ReadonlySet<string>): void {
  for (const path of [...files.keys()]) if (path.startsWith(prefix) && !kept.has(path)) files.delete(path);
}

function toFile(header: Header, content: Uint8Array): FlatFile {
  const type = header.type ?? 'file';
  const pax = paxSchema.parse(header.pax ?? {});
  return {
    type,
    mode: type === 'symlink' ? '' : (header.mode & 0o7777).toString(8),
    owner: `${pax.uid ?? header.uid}:${pax.gid ?? header.gid}`,
    ...(type === 'symlink' && { link: header.linkname ?? '' }),
    ...(type === 'file' && { digest: digestOf(content) }),
    ...(type.endsWith('device') && { device: `${header.devmajor}:${header.devminor}` }),
  };
}

function unpack(raw: Uint8Array): Uint8Array {
  if (raw[0] === 0x1f && raw[1] === 0x8b) return gunzipSync(raw);
  return raw[0] === 0x28 && raw[1] === 0xb5 ? zstdDecompressSync(raw) : raw;
}
