// Clocks that jump, through the whole app: what was kept stays, what is new is seen, and nothing is left alone for longer than it should be.
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { cacheLineSchema } from '../../src/cache/admin/lines.ts';
import { listContent } from '../../src/content/inventory.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { makeIndex } from '../conformance/documents.ts';
import { startApp, type TestApp } from '../support/app.ts';
import { checkImage } from '../support/oracle.ts';

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const YEAR = 365 * 24 * HOUR;
const NAME = 'lab/library/app';

/** Where the clock is after each jump, from where it was at first. */
const JUMPS: [string, readonly number[]][] = [
  ['goes an hour ahead', [HOUR]],
  ['goes an hour back', [-HOUR]],
  ['goes ten years ahead', [10 * YEAR]],
  ['goes ten years back', [-10 * YEAR]],
  ['goes ten years ahead and back again', [10 * YEAR, 0]],
  ['goes ten years back and on again', [-10 * YEAR, 0]],
  ['goes half a minute back', [-MINUTE / 2]],
  ['swings by a minute', [MINUTE, -MINUTE, MINUTE, -MINUTE]],
];

let app: TestApp;
let nowMs: number;

beforeEach(async () => {
  nowMs = Date.parse('2030-01-01T00:00:00Z');
  app = await startApp({ now: () => new Date(nowMs) });
});

afterEach(() => app.close());

async function jump(places: readonly number[], work: () => Promise<unknown>): Promise<void> {
  const startMs = nowMs;
  for (const place of places) {
    nowMs = startMs + place;
    await work();
  }
}

const statusOf = async (path: string) => (await app.request(path)).status;

async function countAsked(work: () => Promise<unknown>): Promise<number> {
  app.registry.requests.length = 0;
  await work();
  return app.registry.requests.length;
}

describe.each(JUMPS)('a clock that %s', (_, places) => {
  test('a tag costs one HEAD at most, and moves no later than its freshness after', async () => {
    const before = app.putImage();
    await app.head(NAME, '1');
    await jump(places, async () => {
      for (const most of [1, 0, 0]) expect(await countAsked(() => app.head(NAME, '1'))).toBeLessThanOrEqual(most);
    });
    const after = app.putImage({ seed: 2 });
    expect([before.root.digest, after.root.digest]).toContain((await app.head(NAME, '1')).digest);
    nowMs += 5 * MINUTE;
    expect((await app.head(NAME, '1')).digest).toBe(after.root.digest);
  });

  test('an image that is kept is served, without asking for more than its tag', async () => {
    const { root } = app.putImage();
    await checkImage(await app.head(NAME, '1'), descriptor => app.read(NAME, descriptor));
    await jump(places, async () => {
      const asked = await countAsked(async () => {
        expect((await app.head(NAME, '1')).digest).toBe(root.digest);
        await checkImage(root, descriptor => app.read(NAME, descriptor));
      });
      expect(asked).toBeLessThanOrEqual(1);
    });
  });

  test('what was not there is found no later than it is remembered', async () => {
    expect(await statusOf(`/v2/${NAME}/manifests/1`)).toBe(404);
    await jump(places, async () => expect(await statusOf(`/v2/${NAME}/manifests/1`)).toBe(404));
    app.putImage();
    nowMs += 10 * SECOND;
    expect(await statusOf(`/v2/${NAME}/manifests/1`)).toBe(200);
  });

  test.each([
    ['fails', { status: 503, headers: {} }, 10 * SECOND],
    ['limits us', { status: 429, headers: { 'retry-after': '60' } }, 60 * SECOND],
  ])(
    'an upstream that %s is asked once after each jump at most, and by all no later than its pause after',
    async (_, { status, headers }, pauseMs) => {
      app.registry.intercept((__, response) => {
        response.writeHead(status, headers).end();
        return true;
      });
      const ask = () => statusOf(`/v2/${NAME}${Math.random()}/manifests/1`);
      for (let at = 0; at < 5; at += 1) await ask();
      expect(await countAsked(ask)).toBe(0);
      await jump(places, async () => {
        const asked = await countAsked(async () => {
          for (let at = 0; at < 5; at += 1) await ask();
        });
        expect(asked).toBeLessThanOrEqual(1);
      });
      app.registry.intercept();
      nowMs += pauseMs;
      for (let at = 0; at < 5; at += 1) expect(await ask()).toBe(404);
    },
  );

  test('what was used last stays when room is made', async () => {
    const blobs = ['first', 'second', 'third'].map(seed => Buffer.alloc(1000, seed));
    app.registry.put(
      'library/app',
      blobs.map(raw => ({ mediaType: 'application/octet-stream', raw })),
    );
    const pull = async (raw: Buffer) => {
      const response = await app.request(`/v2/${NAME}/blobs/${digestOf(raw)}`);
      expect(Buffer.from(await response.bytes())).toEqual(raw);
    };
    for (const raw of blobs) await pull(raw);
    await expect.poll(() => inventory()).toHaveLength(3);
    const last = blobs.slice(0, 1);
    await jump(places, async () => {
      for (const raw of last) await pull(raw);
    });
    await app.request('/v1/cache/prune?toBytes=1000', { method: 'POST' }).then(response => response.text());
    expect(await inventory()).toEqual(last.map(raw => digestOf(raw)));
  });
});

describe('a clock that is ahead for a while', { timeout: 30_000 }, () => {
  const DAY = 24 * HOUR;
  const TAG = '/v2/local/keep14/app/manifests/a';
  const index = makeIndex([]);
  let hosted: TestApp;
  let uptimeMs: number;
  let wallMs: number;

  beforeEach(async () => {
    uptimeMs = 0;
    // Drafts have the times of the disk.
    wallMs = Date.now();
    const retention = [{ repositories: ['local/keep14/**'], tags: ['*'], maxAge: '14d' }];
    hosted = await startApp({
      config: { hosted: { collect: { every: '10m', grace: '24h' }, retention } },
      now: () => new Date(wallMs),
      uptimeMs: () => uptimeMs,
      everySweepMs: 5,
    });
    hosted.putImage();
  });

  afterEach(() => hosted.close());

  const pass = (ms: number) => {
    uptimeMs += ms;
    wallMs += ms;
  };

  /** The statuses of a token, a tag that retention is about, a blob without a manifest, and an upload. */
  async function push() {
    const blob = Buffer.from('a part of a push');
    const at = '/v2/local/half/blobs';
    const start = async () =>
      (await hosted.request(`${at}/uploads/`, { method: 'POST' })).headers
        .get('location')
        ?.replace(/^.*?\/v2/, '/v2') ?? '';
    const put = `${await start()}?digest=${digestOf(blob)}`;
    expect((await hosted.request(put, { method: 'PUT', headers: BYTES, body: streamOf(blob) })).status).toBe(201);
    const upload = await start();
    expect((await hosted.request(upload, { method: 'PATCH', headers: BYTES, body: streamOf(blob) })).status).toBe(202);
    const headers = { 'Content-Type': index.mediaType };
    expect((await hosted.request(TAG, { method: 'PUT', headers, body: index.raw.toString() })).status).toBe(201);
    const { name } = await hosted.submit();
    const paths = [`/v2/${name}/manifests/1`, TAG, upload];
    return async () => {
      const statuses: number[] = [];
      for (const path of paths) {
        const response = await hosted.request(path);
        await response.bytes();
        statuses.push(response.status);
      }
      // A blob that is asked for stays for the sake of who asked.
      return [...statuses, (await contents()).includes(digestOf(blob)) ? 200 : 404];
    };
  }

  const contents = () => Array.fromAsync(listContent(join(hosted.directory, 'data', 'hosted')));
  /** Enough for many of them, and for a collection. */
  const sweepOften = () => new Promise(resolve => setTimeout(resolve, 300));

  const HERE = [200, 200, 204, 200];
  const GONE = [404, 404, 404, 404];

  test.each([1, 3, 30])('by %i days takes nothing that was there', async days => {
    const look = await push();
    for (let round = 0; round < 2; round += 1) {
      wallMs += days * DAY;
      pass(14 * SECOND);
      await sweepOften();
      expect((await look()).slice(1)).toEqual(HERE.slice(1));
      expect(await (await hosted.request('/health/ready')).json()).toMatchObject({
        status: 'UP',
        notes: [expect.stringMatching(/the clock is \d+ (days|hours) ahead of the elapsed time/)],
      });
      wallMs -= days * DAY;
      await sweepOften();
      expect(await look()).toEqual(HERE);
    }
    expect(await (await hosted.request('/health/ready')).json()).toEqual({ status: 'UP' });
    expect(hosted.log.filter(line => /ahead of the elapsed time/.test(line))).toHaveLength(2);
  });

  test('that is ahead at a start takes nothing that was there', async () => {
    const look = await push();
    pass(MINUTE);
    wallMs += 30 * DAY;
    uptimeMs = 7;
    await hosted.restart();
    pass(14 * SECOND);
    await sweepOften();
    wallMs -= 30 * DAY;
    await sweepOften();
    expect(await look()).toEqual(HERE);
  });

  test('that stays ahead is believed after an hour of uptime, and what is over then goes', async () => {
    const look = await push();
    wallMs += 30 * DAY;
    await hosted.request(TAG);
    pass(59 * MINUTE);
    await sweepOften();
    expect((await look()).slice(1)).toEqual(HERE.slice(1));
    pass(MINUTE);
    await expect.poll(look, { timeout: 20_000 }).toEqual(GONE);
    wallMs -= 30 * DAY;
    expect(await look()).toEqual(GONE);
  });

  test('that was behind makes nothing old that is new', async () => {
    const look = await push();
    wallMs -= 50 * 365 * DAY;
    pass(MINUTE);
    const later = await push();
    pass(MINUTE);
    wallMs += 50 * 365 * DAY;
    await sweepOften();
    expect(await look()).toEqual(HERE);
    expect(await later()).toEqual(HERE);
  });

  test('refuses to collect and to prune by age, unless it is forced', async () => {
    const look = await push();
    wallMs += 30 * DAY;
    const ask = async (path: string) => (await hosted.request(path, { method: 'POST' })).text();
    expect(await ask('/v1/hosted/collect')).toMatch(/"error".*the clock has jumped ahead.*--force/);
    expect(await ask('/v1/hosted/collect?dryRun=true')).toMatch(/"error".*the clock has jumped ahead/);
    expect(await ask('/v1/cache/prune?unusedMs=1000')).toMatch(/"error".*the clock has jumped ahead.*--force/);
    expect(await ask('/v1/cache/prune?toBytes=1000000000')).toMatch(/"pruned"/);
    expect(await ask('/v1/cache/prune?unusedMs=1000&force=true')).toMatch(/"pruned"/);
    expect((await look()).slice(1)).toEqual(HERE.slice(1));
    expect(await ask('/v1/hosted/collect?force=true')).toMatch(/"tags":1,/);
    expect((await look()).slice(1)).toEqual([404, 204, 404]);
  });
});

const BYTES = { 'Content-Type': 'application/octet-stream' };

const streamOf = (bytes: Uint8Array) => new Blob([Buffer.from(bytes)]).stream();

async function inventory(): Promise<readonly unknown[]> {
  const response = await app.request(`/v1/cache/content?repository=${NAME}`);
  const lines = (await response.text()).split('\n').filter(Boolean);
  return lines.map(line => cacheLineSchema.parse(JSON.parse(line))).map(line => line.kind === 'content' && line.digest);
}
