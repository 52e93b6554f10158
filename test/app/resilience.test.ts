// What an upstream is asked, and what is served while it fails: by the policies of the configuration, through the whole app.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { afterEach, describe, expect, test } from 'vitest';
import { startApp, type TestApp } from '../support/app.ts';
import { checkImage } from '../support/oracle.ts';
import { PATIENT } from '../support/patience.ts';

const NAME = 'lab/library/app';
const TAG = `/v2/${NAME}/manifests/1`;
const SECOND = 1000;
const MINUTE = 60 * SECOND;
const DAY = 24 * 60 * MINUTE;

let app: TestApp;
let nowMs: number;

/** `entry` is of `lab`; `config` of the whole file. */
async function start(config: Record<string, unknown> = {}): Promise<void> {
  nowMs = Date.parse('2026-01-02T03:04:05Z');
  const patience = { retries: 0, timeouts: PATIENT };
  app = await startApp({ now: () => new Date(nowMs), patience, config });
}

afterEach(() => app.close());

type Reply = (response: ServerResponse, request: IncomingMessage) => unknown;

function fail(reply: Reply = response => response.writeHead(503).end()): void {
  app.registry.intercept((request, response) => {
    reply(response, request);
    return true;
  });
}

async function get(path: string = TAG) {
  const response = await app.request(path);
  const text = await response.text();
  return { status: response.status, text, retryAfter: response.headers.get('retry-after') };
}

/** How many requests the upstream gets during the work. */
async function countAsked(work: () => Promise<unknown>): Promise<number> {
  app.registry.requests.length = 0;
  await work();
  return app.registry.requests.length;
}

/** The entry of the registry that `start` started, under its alias, with more in it. */
async function restartFixture(entry: Record<string, unknown>, config: Record<string, unknown> = {}): Promise<void> {
  await app.configure({ upstreams: { lab: { url: app.registry.url, ...entry } }, ...config });
}

describe('a tag', () => {
  test('is fresh as long as the first rule that matches it says', async () => {
    const freshness = [
      { images: ['lab/other/**'], time: '1d' },
      { images: ['lab/library/**'], tags: ['1', 'latest'], time: '1m' },
      { images: ['**'], time: '1h' },
    ];
    await start({ cache: { freshness } });
    app.putImage();
    await app.head(NAME, '1');
    nowMs += MINUTE - 1;
    expect(await countAsked(() => get())).toBe(0);
    nowMs += 1;
    expect(await countAsked(() => get())).toBe(1);
    expect(app.registry.requests[0]?.method).toBe('HEAD');
  });

  test('is fresh for tagFreshness where no rule matches', async () => {
    await start({ cache: { tagFreshness: '2m', freshness: [{ images: ['lab/other'], time: '1d' }] } });
    app.putImage();
    await app.head(NAME, '1');
    nowMs += 2 * MINUTE - 1;
    expect(await countAsked(() => get())).toBe(0);
    nowMs += 1;
    expect(await countAsked(() => get())).toBe(1);
  });

  test.each(['HEAD', 'GET'])('that is not fresh any more costs one HEAD at the upstream: %s', async method => {
    await start();
    app.putImage();
    await app.head(NAME, '1');
    nowMs += 6 * MINUTE;
    app.registry.requests.length = 0;
    expect((await app.request(TAG, { method })).status).toBe(200);
    expect(app.registry.requests.map(({ method }) => method)).toEqual(['HEAD']);
  });

  test.each<[string, number, readonly string[], number]>([
    ['notFound', 404, ['unavailable'], 404],
    ['notFound', 404, ['unavailable', 'notFound'], 200],
    ['notFound', 404, ['unauthorized'], 404],
    ['unauthorized', 401, ['unavailable', 'unauthorized'], 200],
    ['unauthorized', 403, ['unauthorized'], 200],
    ['unauthorized', 401, ['unavailable'], 401],
    ['unavailable', 503, [], 502],
    ['unavailable', 429, ['unavailable'], 200],
  ])('stale, %s (%i), with cache.stale.on %j is %i', async (_, status, on, expected) => {
    await start({ cache: { stale: { on } } });
    app.putImage();
    await app.head(NAME, '1');
    nowMs += 6 * MINUTE;
    fail(response => response.writeHead(status).end());
    expect((await get()).status).toBe(expected);
    nowMs += 8 * DAY;
    expect((await get()).status).not.toBe(200);
  });
});

test.each<['a tag' | 'a manifest' | 'a blob', boolean, readonly string[]]>([
  ['a tag', true, []],
  ['a manifest', true, []],
  ['a blob', true, []],
  ['a blob', false, ['HEAD']],
])('a HEAD for %s (stored: %s) costs at the upstream: %j', async (what, isStored, asked) => {
  await start();
  const { root, content } = app.putImage();
  const config = [...content].find(([, { mediaType }]) => mediaType.includes('config'))?.[0];
  const reference = { 'a tag': 'manifests/1', 'a manifest': `manifests/${root.digest}`, 'a blob': `blobs/${config}` };
  const path = `/v2/${NAME}/${reference[what]}`;
  if (isStored) await get(path);
  const head = async () => {
    app.registry.requests.length = 0;
    expect((await app.request(path, { method: 'HEAD' })).status).toBe(200);
    return app.registry.requests.map(({ method }) => method);
  };
  // A blob is stored a moment after its last byte was served.
  await expect.poll(head).toEqual(asked);
});

describe('what is not there', () => {
  test.each([
    // Some registries answer HEAD so for what is there: GET has the last word.
    ['a tag', TAG, ['HEAD', 'GET']],
    ['a digest', `/v2/${NAME}/manifests/sha256:${'0'.repeat(64)}`, ['GET']],
  ])('is asked for once in ten seconds: %s', async (_, path, methods) => {
    await start();
    const asked = await countAsked(async () => {
      for (let at = 0; at < 5; at++) expect((await get(path)).status).toBe(404);
    });
    expect(asked).toBe(methods.length);
    expect(app.registry.requests.slice(-asked).map(({ method }) => method)).toEqual(methods);
    nowMs += 10 * SECOND;
    expect(await countAsked(() => get(path))).toBe(methods.length);
  });

  test.each([
    ['after the time that is configured', '1m', MINUTE],
    ['at once, where nothing is remembered', '0s', 0],
    ['when the clock was set back', '1m', -DAY],
  ])('is found %s', async (_, negative, laterMs) => {
    await start({ cache: { negative } });
    expect((await get()).status).toBe(404);
    app.putImage();
    nowMs += laterMs;
    expect((await get()).status).toBe(200);
  });
});

describe('offline', () => {
  test.each([
    ['all', { offline: true }, {}],
    ['one upstream', {}, { offline: true }],
  ])('serves what is stored, tags whatever their age, and asks nothing: %s', async (_, config, entry) => {
    await start();
    const { root } = app.putImage();
    await checkImage(await app.head(NAME, '1'), descriptor => app.read(NAME, descriptor));
    await restartFixture(entry, config);
    nowMs += 400 * DAY;
    const asked = await countAsked(async () => {
      expect((await app.head(NAME, '1')).digest).toBe(root.digest);
      await checkImage(root, descriptor => app.read(NAME, descriptor));
    });
    expect(asked).toBe(0);
  });

  test.each([
    ['a tag', '/v2/lab/library/other/manifests/1'],
    ['a manifest', `/v2/${NAME}/manifests/sha256:${'0'.repeat(64)}`],
    ['a blob', `/v2/${NAME}/blobs/sha256:${'0'.repeat(64)}`],
    ['a list of tags', `/v2/${NAME}/tags/list`],
  ])('is 503 for what is not stored, and says so: %s', async (_, path) => {
    await start({ offline: true });
    const asked = await countAsked(async () => {
      expect(await get(path)).toMatchObject({ status: 503, text: expect.stringMatching(/UNAVAILABLE.*offline/) });
    });
    expect(asked).toBe(0);
  });

  test('does not bring a layer from its address', async () => {
    await start();
    app.putImage();
    await app.head(NAME, '1');
    await restartFixture({}, { offline: true, layers: { allowPrivateAddresses: true } });
    const layers = [{ location: `${app.registry.url}/layer`, gzipDigest: `sha256:${'0'.repeat(64)}`, gzipSize: 1 }];
    const body = { containerImage: 'lab/library/app:1', containerConfig: { layers } };
    const response = await app.request('/v1alpha2/container', { method: 'POST', body });
    expect([response.status, await response.text()]).toEqual([400, expect.stringContaining('offline')]);
  });
});

test.each<[string, Record<string, unknown>, number]>([
  ['all without a rule', {}, 200],
  ['what allow has', { allow: ['library/*'] }, 200],
  ['what deny has not', { deny: ['team/**'] }, 200],
  ['not what allow lacks', { allow: ['team/**'] }, 403],
  ['not what deny has, although it is allowed', { allow: ['**'], deny: ['library/app'] }, 403],
  ['nothing where allow is empty', { allow: [] }, 403],
])('an entry lets be pulled %s, although it is stored', async (_, entry, status) => {
  await start();
  const { root } = app.putImage();
  await checkImage(await app.head(NAME, '1'), descriptor => app.read(NAME, descriptor));
  const { name } = await app.submit({ containerImage: 'lab/library/app:1', containerConfig: { env: ['A=1'] } });
  await restartFixture(entry);
  for (const path of [
    `/v2/${name}/manifests/1`,
    TAG,
    `/v2/${NAME}/manifests/${root.digest}`,
    `/v2/${NAME}/tags/list`,
  ]) {
    expect((await get(path)).status).toBe(status);
  }
  const body = { containerImage: 'lab/library/app:1', containerConfig: { env: ['A=1'] } };
  const submitted = await app.request('/v1alpha2/container', { method: 'POST', body });
  expect(submitted.status).toBe(status === 200 ? 200 : 400);
});

test('an upstream that limits us is not asked before its Retry-After is over, and the stored tag is served meanwhile', async () => {
  await start();
  const { root } = app.putImage();
  await app.head(NAME, '1');
  nowMs += 6 * MINUTE;
  fail(response => response.writeHead(429, { 'retry-after': '60' }).end());
  const asked = await countAsked(async () => {
    for (let at = 0; at < 5; at++) expect((await app.head(NAME, '1')).digest).toBe(root.digest);
    expect(await get('/v2/lab/library/other/manifests/1')).toMatchObject({ status: 429, retryAfter: '60' });
  });
  expect(asked).toBe(1);
  app.registry.intercept();
  nowMs += 60 * SECOND;
  expect(await countAsked(() => get())).toBe(1);
});

test('an upstream that flaps is asked as the breaker lets it: stored tags are served throughout, the rest is 503', async () => {
  await start();
  await restartFixture({ breaker: { failures: 3, pause: '10s' } });
  const { root } = app.putImage();
  await app.head(NAME, '1');
  const seen: { readonly status: number; readonly asked: number }[] = [];
  for (const isUp of [false, false, false, false, true, false, true]) {
    if (isUp) app.registry.intercept();
    else fail();
    nowMs += 6 * MINUTE;
    for (let at = 0; at < 4; at++) {
      expect((await app.head(NAME, '1')).digest).toBe(root.digest);
      app.registry.requests.length = 0;
      const { status } = await get(`/v2/${NAME}/tags/list`);
      seen.push({ status, asked: app.registry.requests.length });
    }
    const { status, parts = [] } = JSON.parse((await get('/health/ready')).text);
    expect(status).toBe('UP');
    expect(parts.map(({ part }: { part: string }) => part).includes('upstream lab')).toBe(!isUp);
  }
  expect(new Set(seen.map(({ status }) => status))).toEqual(new Set([200, 502, 503]));
  expect(seen.filter(({ status, asked }) => status === 503 && asked > 0)).toEqual([]);
  expect(seen.filter(({ status }) => status === 200)).toHaveLength(8);
  const lines = app.log.filter(line => line.includes('an upstream'));
  expect(lines.map(line => JSON.parse(line)).map(({ level, upstream }) => [level, upstream])).toEqual([
    [40, 'lab'],
    [30, 'lab'],
    [40, 'lab'],
    [30, 'lab'],
  ]);
});

test('an upstream that is offline is not pushed to', async () => {
  await start({ offline: true });
  const body = { containerImage: 'lab/library/app:1', containerConfig: { env: ['A=1'] }, freeze: true };
  const asked = await countAsked(async () => {
    const response = await app.request('/v1alpha2/container', { method: 'POST', body });
    expect([response.status, await response.text()]).toEqual([400, expect.stringContaining('offline')]);
  });
  expect(asked).toBe(0);
});

test('mirrors come from the configuration: one that fails is passed over', async () => {
  await start();
  const { root } = app.putImage();
  await restartFixture({
    mirrors: [{ url: 'http://127.0.0.1:1' }, { url: app.registry.url }],
    url: 'http://127.0.0.1:1',
  });
  await checkImage(await app.head(NAME, '1'), descriptor => app.read(NAME, descriptor));
  expect((await app.head(NAME, '1')).digest).toBe(root.digest);
});
