// The test registry keeps to distribution-spec, so that tests that stand on it mean something.
import { afterEach, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { type RegistryOptions, startRegistry, type TestRegistry } from './registry.ts';
import { sendError } from './registry-answers.ts';

let registry: TestRegistry;

afterEach(() => registry.close());

const layer = Buffer.from('0123456789');
const manifest = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.ociManifest, layers: [] }));
const signature = Buffer.from(
  JSON.stringify({ artifactType: 'test/signature', subject: { digest: digestOf(manifest) } }),
);

async function start(options?: RegistryOptions): Promise<void> {
  registry = await startRegistry(options);
  registry.put('team/app', [
    { mediaType: 'application/octet-stream', raw: layer },
    { mediaType: mediaTypes.ociManifest, raw: manifest, tags: ['a', 'b', 'c'] },
    { mediaType: mediaTypes.ociManifest, raw: signature },
  ]);
}

function get(path: string, init: RequestInit = {}): Promise<Response> {
  return fetch(`${registry.url}${path}`, init);
}

test.each(['b', digestOf(manifest)])('serves a manifest as it was stored, by %s', async reference => {
  await start();
  for (const method of ['GET', 'HEAD']) {
    const response = await get(`/v2/team/app/manifests/${reference}`, { method });
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe(mediaTypes.ociManifest);
    expect(response.headers.get('docker-content-digest')).toBe(digestOf(manifest));
    expect(response.headers.get('content-length')).toBe(String(manifest.byteLength));
    expect(await response.text()).toBe(method === 'GET' ? manifest.toString() : '');
  }
  expect(registry.requests.map(({ method }) => method)).toEqual(['GET', 'HEAD']);
});

test.each([
  [undefined, 200, '0123456789', null],
  ['bytes=2-4', 206, '234', 'bytes 2-4/10'],
  ['bytes=7-', 206, '789', 'bytes 7-9/10'],
  ['bytes=-1', 206, '9', 'bytes 9-9/10'],
])('serves the range %s of a blob', async (range, status, body, contentRange) => {
  await start();
  const response = await get(`/v2/team/app/blobs/${digestOf(layer)}`, range ? { headers: { range } } : {});
  expect([response.status, await response.text()]).toEqual([status, body]);
  expect(response.headers.get('content-range')).toBe(contentRange);
});

test('refuses a range outside a blob', async () => {
  await start();
  const response = await get(`/v2/team/app/blobs/${digestOf(layer)}`, { headers: { range: 'bytes=10-' } });
  expect([response.status, response.headers.get('content-range')]).toEqual([416, 'bytes */10']);
  await response.body?.cancel();
});

test('pages through tags', async () => {
  await start();
  const first = await get('/v2/team/app/tags/list?n=2');
  expect(await first.json()).toEqual({ name: 'team/app', tags: ['a', 'b'] });
  expect(first.headers.get('link')).toBe('</v2/team/app/tags/list?n=2&last=b>; rel="next"');
  const second = await get('/v2/team/app/tags/list?n=2&last=b');
  expect(await second.json()).toEqual({ name: 'team/app', tags: ['c'] });
  expect(second.headers.get('link')).toBeNull();
});

test.each([
  ['', 1, null],
  ['?artifactType=test/signature', 1, 'artifactType'],
  ['?artifactType=other', 0, 'artifactType'],
])('lists referrers for "%s"', async (query, count, filters) => {
  await start();
  const response = await get(`/v2/team/app/referrers/${digestOf(manifest)}${query}`);
  const descriptor = {
    mediaType: mediaTypes.ociManifest,
    digest: digestOf(signature),
    size: signature.byteLength,
    artifactType: 'test/signature',
  };
  expect(await response.json()).toMatchObject({ schemaVersion: 2, manifests: Array(count).fill(descriptor) });
  expect(response.headers.get('oci-filters-applied')).toBe(filters);
});

test.each([
  ['/v2/other/manifests/a', 'NAME_UNKNOWN'],
  ['/v2/team/app/manifests/z', 'MANIFEST_UNKNOWN'],
  [`/v2/team/app/blobs/${digestOf(manifest)}`, 'BLOB_UNKNOWN'],
])('answers 404 for %s', async (path, code) => {
  await start();
  const response = await get(path);
  expect(response.status).toBe(404);
  expect(await response.json()).toMatchObject({ errors: [{ code }] });
});

test('wants a token of the right scope and credentials', async () => {
  await start({ requireToken: { username: 'me', password: 'secret' } });
  const denied = await get('/v2/team/app/manifests/a');
  expect(denied.status).toBe(401);
  expect(denied.headers.get('www-authenticate')).toBe(
    `Bearer realm="${registry.url}/token",service="test",scope="repository:team/app:pull"`,
  );
  expect((await get('/token?scope=repository:team/app:pull')).status).toBe(401);
  expect(await statusWithToken('repository:team/app:pull', 'Basic bWU6c2VjcmV0')).toBe(200);
  expect(await statusWithToken('repository:team/other:pull', 'Basic bWU6c2VjcmV0')).toBe(401);
});

test('gives tokens to anyone when no credentials are asked for', async () => {
  await start({ requireToken: true });
  expect((await get('/v2/')).status).toBe(401);
  expect(await statusWithToken('repository:team/app:pull')).toBe(200);
});

async function statusWithToken(scope: string, basic?: string): Promise<number> {
  const response = await get(`/token?scope=${scope}`, basic ? { headers: { authorization: basic } } : {});
  const body: unknown = await response.json();
  const token = typeof body === 'object' && body !== null && 'token' in body ? body.token : '';
  return (await get('/v2/team/app/manifests/a', { headers: { authorization: `Bearer ${token}` } })).status;
}

test('lets a test misbehave, and behaves again', async () => {
  await start();
  registry.intercept((request, response) => {
    if (request.url?.includes('manifests')) sendError(response, 429, 'TOOMANYREQUESTS');
    else request.socket.destroy();
    return true;
  });
  expect((await get('/v2/team/app/manifests/a')).status).toBe(429);
  await expect(get('/v2/')).rejects.toThrow();
  registry.intercept();
  expect((await get('/v2/')).status).toBe(200);
});

test('closes while a request hangs', async () => {
  await start();
  const hanging = new Promise<void>(resolve => {
    registry.intercept(() => {
      resolve();
      return true;
    });
  });
  const rejected = expect(get('/v2/')).rejects.toThrow();
  await hanging;
  await registry.close();
  await rejected;
});
