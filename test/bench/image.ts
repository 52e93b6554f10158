// What the benchmark pulls: an image for three platforms and one large blob, put into the peer by plain requests.
import { createHash, randomBytes } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { pack } from 'tar-stream';

const PLATFORMS = [
  { os: 'linux', architecture: 'amd64' },
  { os: 'linux', architecture: 'arm64' },
  { os: 'linux', architecture: 'arm', variant: 'v7' },
];

export const INDEX_TYPE = 'application/vnd.oci.image.index.v1+json';
export const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';
export const CONFIG_TYPE = 'application/vnd.oci.image.config.v1+json';
export const LAYER_TYPE = 'application/vnd.oci.image.layer.v1.tar+gzip';

/** A repository's address: http://host:port/v2/name. Gives the digest of the index, which has the tag too. */
export async function pushImage(repository: string, tag: string): Promise<string> {
  const manifests = await Promise.all(
    PLATFORMS.map(async platform => ({ ...(await pushPlatform(repository, platform)), platform })),
  );
  const index = encode({ schemaVersion: 2, mediaType: INDEX_TYPE, manifests });
  await put(`${repository}/manifests/${tag}`, index, INDEX_TYPE);
  return digestOf(index);
}

/** Gives the digest of a new blob of random bytes. */
export async function pushRandomBlob(repository: string, bytes: number): Promise<string> {
  return pushBlob(repository, randomBytes(bytes));
}

/** A tar with one file of this content. */
export async function createLayer(content: string): Promise<Buffer> {
  const tar = pack();
  tar.entry({ name: 'etc/bench', mtime: new Date(0) }, content);
  tar.finalize();
  return Buffer.concat(await Array.fromAsync(tar, toBytes));
}

function toBytes(chunk: unknown): Uint8Array {
  if (chunk instanceof Uint8Array) return chunk;
  throw new TypeError('a tar gives bytes');
}

async function pushPlatform(repository: string, platform: (typeof PLATFORMS)[number]) {
  const tar = await createLayer(JSON.stringify(platform));
  const layer = gzipSync(tar);
  const rootfs = { type: 'layers', diff_ids: [digestOf(tar)] };
  const config = encode({ ...platform, config: { Env: ['PATH=/bin'], Cmd: ['/bin/sh'] }, rootfs });
  const manifest = encode({
    schemaVersion: 2,
    mediaType: MANIFEST_TYPE,
    config: { mediaType: CONFIG_TYPE, digest: await pushBlob(repository, config), size: config.length },
    layers: [{ mediaType: LAYER_TYPE, digest: await pushBlob(repository, layer), size: layer.length }],
  });
  const digest = digestOf(manifest);
  await put(`${repository}/manifests/${digest}`, manifest, MANIFEST_TYPE);
  return { mediaType: MANIFEST_TYPE, digest, size: manifest.length };
}

async function pushBlob(repository: string, bytes: Buffer<ArrayBuffer>): Promise<string> {
  const digest = digestOf(bytes);
  const opened = await fetch(`${repository}/blobs/uploads/`, { method: 'POST' });
  const location = new URL(opened.headers.get('location') ?? '', repository);
  location.searchParams.set('digest', digest);
  await put(location.href, bytes, 'application/octet-stream');
  return digest;
}

async function put(url: string, body: Buffer<ArrayBuffer>, type: string): Promise<void> {
  const response = await fetch(url, { method: 'PUT', body, headers: { 'content-type': type } });
  if (!response.ok) throw new Error(`PUT ${url}: ${response.status} ${await response.text()}`);
}

export function encode(value: unknown): Buffer<ArrayBuffer> {
  return Buffer.from(JSON.stringify(value));
}

export function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}
