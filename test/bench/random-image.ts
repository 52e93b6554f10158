// Images of random bytes, which no registry has, pushed and pulled as clients do.
import { randomBytes } from 'node:crypto';
import type { Client } from './client.ts';
import { CONFIG_TYPE, digestOf, encode, LAYER_TYPE, MANIFEST_TYPE } from './image.ts';

export interface RandomBlob {
  readonly bytes: Uint8Array;
  readonly digest: string;
}

export interface RandomImage {
  /** That no other image has. */
  readonly tag: string;
  readonly config: RandomBlob;
  readonly layers: readonly RandomBlob[];
  readonly manifest: Buffer<ArrayBuffer>;
}

const CONFIG_BYTES = 1024;

export function createBlob(bytes: number): RandomBlob {
  const random = randomBytes(bytes);
  return { bytes: random, digest: digestOf(random) };
}

/** Of one layer. */
export function createImage(layerBytes: number): RandomImage {
  const config = createBlob(CONFIG_BYTES);
  const layers = [createBlob(layerBytes)];
  return createImageOf(config, layers);
}

export function createImageOf(config: RandomBlob, layers: readonly RandomBlob[]): RandomImage {
  const describe = ({ bytes, digest }: RandomBlob, mediaType: string) => ({ mediaType, digest, size: bytes.length });
  const manifest = encode({
    schemaVersion: 2,
    mediaType: MANIFEST_TYPE,
    config: describe(config, CONFIG_TYPE),
    layers: layers.map(layer => describe(layer, LAYER_TYPE)),
  });
  return { tag: config.digest.slice(-16), config, layers, manifest };
}

/** To a repository at http://host:port/v2/name: its blobs, together, and then the manifest by its tag. */
export async function pushImage(client: Client, repository: string, image: RandomImage): Promise<void> {
  await Promise.all([image.config, ...image.layers].map(blob => pushBlob(client, repository, blob)));
  await pushManifest(client, `${repository}/manifests/${image.tag}`, image.manifest);
}

export async function pushManifest(client: Client, url: string, manifest: Uint8Array): Promise<void> {
  await client.send(url, { method: 'PUT', type: MANIFEST_TYPE, body: manifest });
}

/** In one request, where the registry takes that; otherwise, as the specification says, in the upload that it begins. */
export async function pushInOne(client: Client, repository: string, { bytes, digest }: RandomBlob): Promise<void> {
  const posted = await client.send(`${repository}/blobs/uploads/?digest=${digest}`, { method: 'POST', body: bytes });
  if (posted.status === 202) await finishUpload(client, posted.location, { bytes, digest });
}

export async function pullImage(client: Client, repository: string, image: RandomImage): Promise<void> {
  const { body } = await client.send(`${repository}/manifests/${image.tag}`);
  if (!image.manifest.equals(body)) throw new Error(`${repository}: ${image.tag} is another manifest`);
  await Promise.all([image.config, ...image.layers].map(blob => pullBlob(client, repository, blob)));
}

export async function pushBlob(client: Client, repository: string, blob: RandomBlob): Promise<void> {
  const { location } = await client.send(`${repository}/blobs/uploads/`, { method: 'POST' });
  await finishUpload(client, location, blob);
}

async function finishUpload(client: Client, upload: URL | undefined, { bytes, digest }: RandomBlob): Promise<void> {
  if (!upload) throw new Error('an upload without a Location');
  upload.searchParams.set('digest', digest);
  await client.send(upload, { method: 'PUT', body: bytes });
}

async function pullBlob(client: Client, repository: string, { bytes, digest }: RandomBlob): Promise<void> {
  const { body } = await client.send(`${repository}/blobs/${digest}`);
  if (body.length !== bytes.length) throw new Error(`${repository}: ${digest} has ${body.length} bytes`);
}
