// What a build pushed, read back from the registry over plain HTTP: documents, configs and files, every digest checked.
import { text } from 'node:stream/consumers';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { extract } from 'tar-stream';
import { z } from 'zod';
import type { BuildCredentials } from '../../src/builds/backend.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { formatPlatform, normalizePlatform } from '../../src/oci/platform.ts';

const descriptorSchema = z.object({ mediaType: z.string(), digest: z.string(), size: z.number() });
const platformSchema = z.object({ os: z.string(), architecture: z.string(), variant: z.string().optional() });
const manifestSchema = z.object({ config: descriptorSchema, layers: z.array(descriptorSchema) });
const indexSchema = z.object({
  manifests: z.array(
    descriptorSchema.extend({ platform: platformSchema, annotations: z.record(z.string(), z.string()).default({}) }),
  ),
});
const configSchema = platformSchema.extend({
  config: z
    .object({ Env: z.array(z.string()).default([]), Labels: z.record(z.string(), z.string()).nullish() })
    .prefault({}),
});

interface PushedImage {
  readonly platform: string;
  readonly env: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  /** The text of a file; undefined where no layer has it. Whiteouts are not looked at. */
  readFile(path: string): Promise<string | undefined>;
  /** Its manifest, config and unpacked layers. */
  readAll(): Promise<readonly Uint8Array[]>;
}

export interface Pushed {
  readonly mediaType: string;
  readonly digest: string;
  /** What the index says of its images, in its order; of a manifest the platform of its config. */
  readonly platforms: readonly string[];
  /** The types of the attestation entries. */
  readonly attestations: readonly string[];
  readonly images: readonly PushedImage[];
}

const ACCEPT = [mediaTypes.ociIndex, mediaTypes.ociManifest, mediaTypes.dockerList, mediaTypes.dockerManifest].join();

/** Reads `host[:port]/repository:tag`. Throws where it is not there. */
export async function readPushed(image: string, credentials?: BuildCredentials): Promise<Pushed> {
  const [, host = '', repository = '', tag = ''] = /^([^/]+)\/(.+):([^:/]+)$/.exec(image) ?? [];
  const get = (path: string) => fetchRaw(`http://${host}/v2/${repository}/${path}`, credentials);
  const root = await get(`manifests/${tag}`);
  const digest = digestOf(root.raw);
  if (!isIndex(root.mediaType)) {
    const pushed = await readImage(root.raw, get);
    return { mediaType: root.mediaType, digest, platforms: [pushed.platform], attestations: [], images: [pushed] };
  }
  const { manifests } = indexSchema.parse(parse(root.raw));
  const isAttestation = ({ platform }: { platform: { os: string } }) => platform.os === 'unknown';
  const entries = manifests.filter(entry => !isAttestation(entry));
  const documents = await Promise.all(entries.map(entry => get(`manifests/${entry.digest}`)));
  return {
    mediaType: root.mediaType,
    digest,
    platforms: entries.map(({ platform }) => formatPlatform(normalizePlatform(platform))),
    attestations: manifests.filter(isAttestation).map(entry => entry.annotations['vnd.docker.reference.type'] ?? ''),
    images: await Promise.all(documents.map(({ raw }) => readImage(raw, get))),
  };
}

type Get = (path: string) => Promise<{ readonly raw: Uint8Array; readonly mediaType: string }>;

async function readImage(manifestRaw: Uint8Array, get: Get): Promise<PushedImage> {
  const manifest = manifestSchema.parse(parse(manifestRaw));
  const { raw: configRaw } = await get(`blobs/${manifest.config.digest}`);
  const { config, ...platform } = configSchema.parse(parse(configRaw));
  const readLayers = () =>
    Promise.all(manifest.layers.map(async ({ digest }) => unpack((await get(`blobs/${digest}`)).raw)));
  return {
    platform: formatPlatform(normalizePlatform(platform)),
    env: config.Env,
    labels: config.Labels ?? {},
    async readFile(path) {
      const found = await Promise.all((await readLayers()).map(tar => findFile(tar, path)));
      return found.findLast(content => content !== undefined);
    },
    readAll: async () => [manifestRaw, configRaw, ...(await readLayers())],
  };
}

async function findFile(tar: Uint8Array, path: string): Promise<string | undefined> {
  const reading = extract();
  reading.end(tar);
  let found: string | undefined;
  for await (const entry of reading) {
    const content = await text(entry);
    if (`/${entry.header.name}`.replace(/^\/(\.?\/)+/, '/') === path) found = content;
  }
  return found;
}

function unpack(blob: Uint8Array): Uint8Array {
  if (blob[0] === 0x1f && blob[1] === 0x8b) return gunzipSync(blob);
  return blob[0] === 0x28 && blob[1] === 0xb5 ? zstdDecompressSync(blob) : blob;
}

async function fetchRaw(url: string, credentials: BuildCredentials | undefined) {
  const basic = credentials && Buffer.from(`${credentials.username}:${credentials.password}`).toString('base64');
  const headers = { accept: ACCEPT, ...(basic && { authorization: `Basic ${basic}` }) };
  const response = await fetch(url, { headers });
  const raw = new Uint8Array(await response.arrayBuffer());
  if (!response.ok) throw new Error(`${url} answers ${response.status}`);
  const digest = url.split('/').at(-1) ?? '';
  if (digest.startsWith('sha256:') && digestOf(raw) !== digest) throw new Error(`${url} has another digest`);
  return { raw, mediaType: response.headers.get('content-type') ?? '' };
}

function parse(raw: Uint8Array): unknown {
  return JSON.parse(new TextDecoder().decode(raw));
}

function isIndex(mediaType: string): boolean {
  return mediaType === mediaTypes.ociIndex || mediaType === mediaTypes.dockerList;
}
