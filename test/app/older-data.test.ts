// A data directory of an earlier release, served by this one.
import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { startApp, type TestApp } from '../support/app.ts';

let app: TestApp;

beforeEach(async () => {
  app = await startApp();
});

afterEach(() => app.close());

test('what was pushed to the first release is pulled, listed, pushed to and deleted', async () => {
  await app.restart('other');
  await cp('fixtures/releases/schema-0', join(app.directory, 'older'), { recursive: true });
  await app.restart('older');
  const get = (path: string) => app.request(`/v2/local/app/${path}`);
  expect(await (await app.request('/health/ready')).json()).toEqual({ status: 'UP' });
  expect(Object(await (await get('tags/list')).json()).tags).toEqual(['1', '2']);
  const pulled = await get('manifests/1');
  const raw = await pulled.bytes();
  expect(digestOf(raw)).toBe(pulled.headers.get('docker-content-digest'));
  const { config, layers } = JSON.parse(Buffer.from(raw).toString());
  for (const { digest } of [config, ...layers]) {
    expect(digestOf(await (await get(`blobs/${digest}`)).bytes())).toBe(digest);
  }
  expect(Object(await (await get(`referrers/${digestOf(raw)}`)).json()).manifests).toHaveLength(1);
  const type = pulled.headers.get('content-type') ?? '';
  const body = Buffer.from(raw).toString();
  const pushed = await app.request('/v2/local/app/manifests/3', {
    method: 'PUT',
    body,
    headers: { 'Content-Type': type },
  });
  expect(pushed.status).toBe(201);
  expect((await app.request('/v2/local/app/manifests/2', { method: 'DELETE' })).status).toBe(202);
  expect(Object(await (await get('tags/list')).json()).tags).toEqual(['1', '3']);
});
