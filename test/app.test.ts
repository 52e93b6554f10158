// The main job in process: a real app over a real registry, through app.fetch; the oracle checks every image that comes out.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import { pino } from 'pino';
import { pack } from 'tar-stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { type App, createApp } from '../src/app.ts';
import { loadConfig } from '../src/config.ts';
import type { ContentDescriptor } from '../src/oci/descriptor.ts';
import { parseDigest } from '../src/oci/digest.ts';
import { parseImageConfig } from '../src/oci/image-config.ts';
import { isIndexType, isManifestType } from '../src/oci/media-type.ts';
import { type GeneratedImage, generateImage } from './support/images.ts';
import { checkImage } from './support/oracle.ts';
import { startRegistry, type TestRegistry } from './support/registry.ts';

const HOST = '127.0.0.1:8080';
const answerSchema = z.object({
  requestId: z.string(),
  targetDigest: z.string(),
  targetImage: z.string(),
  succeeded: z.literal(true),
});
const PLATFORMS = ['linux/amd64', 'linux/arm64', 'linux/arm/v7'];

let directory: string;
let registry: TestRegistry;
let app: App;
let lines: string[];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'veneer-app-'));
  registry = await startRegistry();
  lines = [];
  app = await openApp('data');
});

afterEach(async () => {
  await app.close();
  await registry.close();
  await rm(directory, { recursive: true });
});

describe('plain pulls', () => {
  test('serve the bytes and digests of the upstream', async () => {
    const image = putImage({ seed: 1 });
    const response = await get(`/v2/lab/library/app/manifests/1`);
    expect(response.headers.get('docker-content-digest')).toBe(image.root.digest);
    await checkImage(image.root, descriptor => read('lab/library/app', descriptor));
  });

  test('go on while the upstream is down', async () => {
    const image = putImage({ seed: 2 });
    await checkImage(image.root, descriptor => read('lab/library/app', descriptor));
    registry.intercept((_request, response) => {
      response.writeHead(503).end();
      return true;
    });
    await checkImage(image.root, descriptor => read('lab/library/app', descriptor));
  });

  test('fetch each blob once for many who ask at once', async () => {
    const image = putImage({ seed: 3 });
    const layer = [...image.content].find(([, { mediaType }]) => mediaType.includes('layer'))?.[0] ?? '';
    const path = `/v2/lab/library/app/blobs/${layer}`;
    const bodies = await Promise.all(Array.from({ length: 20 }, async () => (await get(path)).arrayBuffer()));
    expect(bodies.every(body => body.byteLength === image.content.get(layer)?.raw.byteLength)).toBe(true);
    expect(registry.requests.filter(({ method, url }) => method === 'GET' && url.includes('/blobs/'))).toHaveLength(1);
  });

  test('serve a part of a blob, and refuse one beyond its end', async () => {
    const image = putImage({ seed: 4 });
    const [layer = '', content] = [...image.content].find(([, { mediaType }]) => mediaType.includes('layer')) ?? [];
    const path = `/v2/lab/library/app/blobs/${layer}`;
    const part = await get(path, { Range: 'bytes=2-5' });
    expect(part.status).toBe(206);
    expect(part.headers.get('content-range')).toBe(`bytes 2-5/${content?.raw.byteLength}`);
    expect(Buffer.from(await part.arrayBuffer())).toEqual(Buffer.from(content?.raw.subarray(2, 6) ?? []));
    expect((await get(path, { Range: 'bytes=99999999-' })).status).toBe(416);
  });

  test('never keep or wholly deliver a blob that is not what its digest says', async () => {
    const image = putImage({ seed: 5 });
    const [layer = '', content] = [...image.content].find(([, { mediaType }]) => mediaType.includes('layer')) ?? [];
    const size = content?.raw.byteLength ?? 0;
    registry.intercept((request, response) => {
      if (!request.url?.includes('/blobs/')) return false;
      response.writeHead(200, { 'content-length': size }).end(Buffer.alloc(size));
      return true;
    });
    const path = `/v2/lab/library/app/blobs/${layer}`;
    await expect((await get(path)).arrayBuffer()).rejects.toThrow();
    expect(lines.join('')).toContain('a transfer failed');
    registry.intercept();
    expect(Buffer.from(await (await get(path)).arrayBuffer())).toEqual(Buffer.from(content?.raw ?? []));
  });
});

describe('errors', () => {
  test.each([
    ['/v2/lab/Bad/manifests/1', 400, 'NAME_INVALID'],
    ['/v2/lab/library/app/manifests/-', 400, 'TAG_INVALID'],
    ['/v2/lab/library/app/manifests/sha256:1', 400, 'DIGEST_INVALID'],
    ['/v2/lab/library/app/manifests/none', 404, 'MANIFEST_UNKNOWN'],
    ['/v2/wt/0123456789ab/library/app/manifests/1', 404, 'NAME_UNKNOWN'],
    ['/v2/127.0.0.1:1/app/manifests/1', 403, 'DENIED'],
    ['/v2/_catalog', 404, 'UNSUPPORTED'],
  ])('%s is %i %s', async (path, status, code) => {
    putImage({ seed: 6 });
    const response = await get(path);
    expect(response.status).toBe(status);
    expect(await response.json()).toMatchObject({ errors: [{ code, message: expect.any(String) }] });
  });

  test('an upstream that limits us is 429 with its Retry-After', async () => {
    registry.intercept((_request, response) => {
      response.writeHead(429, { 'retry-after': '77' }).end();
      return true;
    });
    const response = await get('/v2/lab/library/app/manifests/1');
    expect([response.status, response.headers.get('retry-after')]).toEqual([429, '77']);
  });
});

describe('augmented pulls', () => {
  const layer = async () => `data:${gzipSync(await tarOf('opt/hello', 'hi')).toString('base64')}`;
  const config = async () => ({ env: ['A=b=c'], workingDir: '/opt', layers: [{ location: await layer() }] });

  test('have every platform rewritten, with every digest right', async () => {
    putImage({ seed: 10, attestations: true });
    const { token, targetDigest } = await submit({ containerConfig: await config() });
    const root = await head(`wt/${token}/library/app`, '1');
    expect(root.digest).toBe(targetDigest);
    const images = await checkImage(root, descriptor => read(`wt/${token}/library/app`, descriptor));
    expect(images).toHaveLength(PLATFORMS.length);
    for (const image of images) {
      const { config } = parseImageConfig(await read(`wt/${token}/library/app`, image.config));
      expect(config).toMatchObject({ Env: expect.arrayContaining(['A=b=c']), WorkingDir: '/opt' });
    }
  });

  test('are one image for one platform, and an index of exactly those for several', async () => {
    putImage({ seed: 11 });
    const one = await submit({ containerConfig: await config(), containerPlatform: 'aarch64' });
    expect(isManifestType((await head(`wt/${one.token}/library/app`, '1')).mediaType)).toBe(true);
    const two = await submit({ containerConfig: await config(), containerPlatform: 'linux/arm/v7,amd64' });
    const root = await head(`wt/${two.token}/library/app`, '1');
    expect(isIndexType(root.mediaType)).toBe(true);
    expect(await checkImage(root, descriptor => read(`wt/${two.token}/library/app`, descriptor))).toHaveLength(2);
    const lacking = await post({ containerImage: image(), containerPlatform: 'linux/s390x' });
    expect([lacking.status, await lacking.text()]).toEqual([400, expect.stringContaining('linux/arm64')]);
  });

  test('have the same digests after a restart without a cache, and are pulled by them', async () => {
    putImage({ seed: 12 });
    const { token, targetDigest } = await submit({ containerConfig: await config() });
    await app.close();
    await rm(join(directory, 'data', 'content'), { recursive: true });
    app = await openApp('data');
    const root = { ...(await head(`wt/${token}/library/app`, targetDigest)), digest: parseDigest(targetDigest) };
    await checkImage(root, descriptor => read(`wt/${token}/library/app`, descriptor));
  });

  test('have the same digests from another instance', async () => {
    putImage({ seed: 13 });
    const { targetDigest } = await submit({ containerConfig: await config() });
    await app.close();
    app = await openApp('other');
    expect((await submit({ containerConfig: await config() })).targetDigest).toBe(targetDigest);
  });

  test('never serve the source through the token', async () => {
    const { root } = putImage({ seed: 14 });
    const { token } = await submit({ containerConfig: await config() });
    expect((await get(`/v2/wt/${token}/library/app/manifests/${root.digest}`)).status).toBe(404);
  });

  test('end with their token', async () => {
    putImage({ seed: 15 });
    const { token } = await submit({ containerConfig: await config() });
    const status = await (await get(`/v1alpha2/container/${token}/status`)).json();
    expect(status).toMatchObject({ status: 'DONE', succeeded: true, creationTime: expect.any(String) });
    await app.fetch(
      new Request(`http://${HOST}/container-token/${token}`, { method: 'DELETE', headers: { Host: HOST } }),
    );
    expect((await get(`/v2/wt/${token}/library/app/manifests/1`)).status).toBe(404);
  });

  test('refuse a layer that is not what it claims, at a private address, or of another scheme', async () => {
    putImage({ seed: 16 });
    const wrong = `sha256:${'0'.repeat(64)}`;
    for (const refused of [
      { location: await layer(), gzipDigest: wrong },
      { location: `${registry.url}/layer.tar` },
      { location: 'file:///etc/passwd' },
    ]) {
      const response = await post({ containerImage: image(), containerConfig: { layers: [refused] } });
      expect([response.status, await response.json()]).toEqual([400, { message: expect.any(String) }]);
    }
  });
});

test('the log holds no token', async () => {
  putImage({ seed: 20 });
  const { token } = await submit({ containerConfig: { env: ['A=b'] } });
  await get(`/v2/wt/${token}/library/app/manifests/1`);
  await get(`/v1alpha2/container/${token}/status`);
  expect(lines.join('')).toContain('/v2/wt/');
  expect(lines.join('')).not.toContain(token);
});

async function openApp(dataDir: string): Promise<App> {
  const file = join(directory, `${dataDir}.yaml`);
  const upstream = { url: registry.url };
  await writeFile(
    file,
    JSON.stringify({ dataDir: join(directory, dataDir), upstreams: { lab: upstream, [registry.host]: upstream } }),
  );
  const sink = new Writable({
    write(chunk, _encoding, done) {
      lines.push(String(chunk));
      done();
    },
  });
  return createApp({ config: loadConfig({ file, env: {}, flags: {} }), log: pino(sink), version: '0.0.0' });
}

function image(): string {
  return `${registry.host}/library/app:1`;
}

function putImage(options: { seed: number; attestations?: boolean }): GeneratedImage {
  const generated = generateImage({ platforms: PLATFORMS, layers: 2, family: 'oci', ...options });
  const contents = [...generated.content].map(([digest, content]) => ({
    ...content,
    ...(digest === generated.root.digest && { tags: ['1'] }),
  }));
  registry.put('library/app', contents);
  return generated;
}

async function get(path: string, headers: Record<string, string> = {}): Promise<Response> {
  return app.fetch(new Request(`http://${HOST}${path}`, { headers: { Host: HOST, ...headers } }));
}

async function head(name: string, reference: string): Promise<ContentDescriptor> {
  const response = await app.fetch(new Request(`http://${HOST}/v2/${name}/manifests/${reference}`, { method: 'HEAD' }));
  return {
    mediaType: response.headers.get('content-type') ?? '',
    digest: parseDigest(response.headers.get('docker-content-digest') ?? ''),
    size: Number(response.headers.get('content-length')),
  };
}

async function read(name: string, { mediaType, digest }: ContentDescriptor): Promise<Uint8Array> {
  const kind = isIndexType(mediaType) || isManifestType(mediaType) ? 'manifests' : 'blobs';
  const response = await get(`/v2/${name}/${kind}/${digest}`);
  expect(response.status).toBe(200);
  return new Uint8Array(await response.arrayBuffer());
}

async function post(body: unknown): Promise<Response> {
  const headers = { Host: HOST, 'Content-Type': 'application/json' };
  const request = { method: 'POST', headers, body: JSON.stringify(body) };
  return app.fetch(new Request(`http://${HOST}/v1alpha2/container`, request));
}

async function submit(body: object): Promise<{ token: string; targetDigest: string }> {
  const response = await post({ containerImage: image(), ...body });
  const answer = answerSchema.parse(await response.json());
  expect(response.status).toBe(200);
  expect(answer.targetImage).toBe(`${HOST}/wt/${answer.requestId}/library/app:1`);
  return { token: answer.requestId, targetDigest: answer.targetDigest };
}

async function tarOf(name: string, content: string): Promise<Buffer> {
  const tar = pack();
  tar.entry({ name, mtime: new Date(0) }, content);
  tar.finalize();
  return buffer(tar);
}
