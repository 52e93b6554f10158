// Clocks that jump, through the whole app: what was kept stays, what is new is seen, and nothing is left alone for longer than it should be.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { cacheLineSchema } from '../../src/cache/lines.ts';
import { digestOf } from '../../src/oci/digest.ts';
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

async function inventory(): Promise<readonly unknown[]> {
  const response = await app.request(`/v1/cache/content?repository=${NAME}`);
  const lines = (await response.text()).split('\n').filter(Boolean);
  return lines.map(line => cacheLineSchema.parse(JSON.parse(line))).map(line => line.kind === 'content' && line.digest);
}
