// Content that is named by a sha512 digest: verified, kept and served under that name.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type App, createApp } from '../../src/app/app.ts';
import { loadConfig } from '../../src/config/config.ts';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';

const blob = Buffer.from('layer');
const config = { mediaType: mediaTypes.ociConfig, digest: digestOf(blob), size: blob.byteLength };
const manifest = Buffer.from(
  JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.ociManifest, config, layers: [] }),
);
const DIGEST = digestOf(manifest, 'sha512');
const BLOB = digestOf(blob, 'sha512');

let directory: string;
let registry: TestRegistry;
let app: App;
let served: { readonly manifest: Buffer; readonly blob: Buffer };

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'veneer-sha512-'));
  registry = await startRegistry();
  served = { manifest, blob };
  registry.intercept((request, response) => {
    const isBlob = request.url?.includes('/blobs/');
    const raw = isBlob ? served.blob : served.manifest;
    response.setHeader('content-type', isBlob ? 'application/octet-stream' : mediaTypes.ociManifest);
    response.setHeader('docker-content-digest', isBlob ? BLOB : DIGEST);
    response.writeHead(200, { 'content-length': raw.byteLength }).end(raw);
    return true;
  });
  app = await openApp();
});

afterEach(async () => {
  await app.close();
  await registry.close();
  await rm(directory, { recursive: true });
});

test('a manifest is served by the sha512 digest that it was asked for, also after a restart', async () => {
  for (let round = 0; round < 2; round++) {
    expect(await get(`manifests/${DIGEST}`)).toEqual({ status: 200, digest: DIGEST, body: manifest });
    await app.close();
    app = await openApp();
  }
  expect(registry.requests).toHaveLength(1);
});

test('a tag is served by the sha512 digest that the upstream names', async () => {
  expect(await get('manifests/1')).toEqual({ status: 200, digest: DIGEST, body: manifest });
  expect(await get(`manifests/${DIGEST}`)).toMatchObject({ status: 200 });
  expect(registry.requests.map(({ method, url }) => `${method} ${url}`)).toEqual([
    'HEAD /v2/library/app/manifests/1',
    `GET /v2/library/app/manifests/${DIGEST}`,
  ]);
});

test('a blob is served by its sha512 digest, and kept', async () => {
  for (let round = 0; round < 2; round++) {
    expect(await get(`blobs/${BLOB}`)).toEqual({ status: 200, digest: BLOB, body: blob });
  }
  expect(registry.requests.filter(({ method }) => method === 'GET')).toHaveLength(1);
});

test('other bytes under a sha512 digest are refused and not kept', async () => {
  served = { manifest: Buffer.from(manifest.toString().replace('}', ' }')), blob: Buffer.from('liar!') };
  expect(await get(`manifests/${DIGEST}`)).toMatchObject({ status: 502 });
  await expect(get(`blobs/${BLOB}`)).rejects.toThrow();
  served = { manifest, blob };
  expect(await get(`manifests/${DIGEST}`)).toMatchObject({ status: 200, body: manifest });
  expect(await get(`blobs/${BLOB}`)).toMatchObject({ status: 200, body: blob });
});

async function openApp(): Promise<App> {
  const file = join(directory, 'veneer.yaml');
  const settings = { dataDir: join(directory, 'data'), upstreams: { lab: { url: registry.url } } };
  await writeFile(file, JSON.stringify(settings));
  const log = pino({ level: 'silent' });
  return createApp({ config: loadConfig({ file, env: {}, flags: {} }), log, version: '0.0.0' });
}

async function get(path: `manifests/${Digest | '1'}` | `blobs/${Digest}`) {
  const response = await app.fetch(new Request(`http://127.0.0.1/v2/lab/library/app/${path}`));
  const body = Buffer.from(await response.arrayBuffer());
  return { status: response.status, digest: response.headers.get('docker-content-digest'), body };
}
