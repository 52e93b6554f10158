// Down does not mean lost: what was pulled is served while its upstream fails, and a failure spoils nothing.
import type { ServerResponse } from 'node:http';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { PLATFORMS, startApp, type TestApp } from '../support/app.ts';
import { checkImage } from '../support/oracle.ts';
import { IMPATIENT, PATIENT } from '../support/patience.ts';

const NAME = 'lab/library/app';
const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
const containerConfig = { env: ['A=1'] };

let app: TestApp;
let nowMs: number;

beforeEach(async () => {
  nowMs = Date.parse('2026-01-02T03:04:05Z');
  app = await start(PATIENT);
});

function start(timeouts: typeof PATIENT): Promise<TestApp> {
  const patience = { retries: 2, retryDelayMs: 1, timeouts };
  return startApp({ now: () => new Date(nowMs), patience, config: { tokens: { ttl: '30d' } } });
}

afterEach(() => app.close());

const hang = () => undefined;

function fail(answer: (response: ServerResponse) => unknown = response => response.writeHead(503).end()): void {
  app.registry.intercept((_request, response) => {
    answer(response);
    return true;
  });
}

test('serves the whole of an image that it has, and after a restart', async () => {
  const { root } = app.putImage({ attestations: true });
  await checkImage(root, descriptor => app.read(NAME, descriptor));
  fail();
  for (const restart of [false, true]) {
    if (restart) await app.restart();
    expect(await checkImage(root, descriptor => app.read(NAME, descriptor))).toHaveLength(PLATFORMS.length);
  }
});

test('serves the whole of an augmented image that it has, and after a restart', async () => {
  app.putImage();
  const { name, targetDigest } = await app.submit({ containerConfig });
  await checkImage(await app.head(name, '1'), descriptor => app.read(name, descriptor));
  fail();
  nowMs += 20 * DAY;
  await app.restart();
  const root = await app.head(name, '1');
  expect(root.digest).toBe(targetDigest);
  expect(await checkImage(root, descriptor => app.read(name, descriptor))).toHaveLength(PLATFORMS.length);
});

describe('a tag', () => {
  test.each<[string, (response: ServerResponse) => unknown, number]>([
    ['limits us', response => response.writeHead(429, { 'retry-after': '7' }).end(), 429],
    ['fails', response => response.writeHead(503).end(), 502],
    ['hangs', hang, 504],
    ['breaks connections', response => response.destroy(), 502],
  ])('is served from before while its upstream %s, but not for ever', async (_, answer, status) => {
    if (answer === hang) {
      await app.close();
      app = await start(IMPATIENT);
    }
    const { root } = app.putImage();
    await app.head(NAME, '1');
    fail(answer);
    nowMs += 6 * MINUTE;
    expect((await app.head(NAME, '1')).digest).toBe(root.digest);
    nowMs += 8 * DAY;
    expect((await app.request(`/v2/${NAME}/manifests/1`)).status).toBe(status);
  });

  test('that its upstream has no more is 404', async () => {
    app.putImage();
    await app.head(NAME, '1');
    nowMs += 6 * MINUTE;
    fail(response => response.writeHead(404).end());
    expect((await app.request(`/v2/${NAME}/manifests/1`)).status).toBe(404);
  });

  test('that moved to what cannot be had stays where it was, until that can be had', async () => {
    const before = app.putImage();
    await app.head(NAME, '1');
    const after = app.putImage({ seed: 2 });
    app.registry.intercept((request, response) => {
      if (request.method === 'HEAD') return false;
      response.writeHead(503).end();
      return true;
    });
    nowMs += 6 * MINUTE;
    expect((await app.head(NAME, '1')).digest).toBe(before.root.digest);
    app.registry.intercept();
    expect((await app.head(NAME, '1')).digest).toBe(after.root.digest);
  });

  test('that a HEAD says to be what is not there is what a GET says', async () => {
    const { root } = app.putImage();
    const gone = { 'docker-content-digest': digestOf(Buffer.from('gone')), 'content-type': root.mediaType };
    app.registry.intercept(({ method, url }, response) => {
      if (method !== 'HEAD' || !url?.endsWith('/1')) return false;
      response.writeHead(200, gone).end();
      return true;
    });
    expect((await app.head(NAME, '1')).digest).toBe(root.digest);
  });

  test('is asked again when the clock was set back', async () => {
    app.putImage();
    await app.head(NAME, '1');
    const { root } = app.putImage({ seed: 2 });
    nowMs -= DAY;
    expect((await app.head(NAME, '1')).digest).toBe(root.digest);
  });
});

test.each([
  ['before the manifest', (url: string) => url.includes('/manifests/sha256')],
  ['before a config', (url: string) => url.includes('/blobs/')],
])('an upstream that dies in the middle of a submit (%s) spoils nothing', async (_, isLost) => {
  app.putImage({ index: false });
  app.registry.intercept((request, response) => {
    if (!isLost(request.url ?? '')) return false;
    response.writeHead(200, { 'content-length': 1000 }).write('{');
    setImmediate(() => response.destroy());
    return true;
  });
  const body = { containerImage: app.image, containerConfig };
  const response = await app.request('/v1alpha2/container', { method: 'POST', body });
  expect([response.status, await response.json()]).toEqual([400, { message: expect.stringContaining(app.image) }]);
  app.registry.intercept();
  const { name } = await app.submit({ containerConfig });
  expect(await checkImage(await app.head(name, '1'), descriptor => app.read(name, descriptor))).toHaveLength(1);
});
