// An upstream that goes up and down under many clients, each of whom wants something else and asks again at once: no storm reaches it.
import type { ServerResponse } from 'node:http';
import { afterEach, expect, test } from 'vitest';
import { startApp, type TestApp } from '../support/app.ts';
import { IMPATIENT, PATIENT } from '../support/patience.ts';

const CLIENTS = 20;
const TRIES = 5;
const FAILURES = 3;
const CONCURRENCY = 4;
const PAUSE_MS = 10_000;

let app: TestApp;
let nowMs: number;
/** How many tags have been asked for. */
let wanted: number;

async function start(timeouts: typeof PATIENT): Promise<void> {
  nowMs = Date.parse('2030-01-01T00:00:00Z');
  wanted = 0;
  const patience = { retries: 0, timeouts };
  app = await startApp({ now: () => new Date(nowMs), patience });
  const breaker = { failures: FAILURES, pause: `${PAUSE_MS / 1000}s` };
  const entry = { url: app.registry.url, concurrency: CONCURRENCY, breaker };
  await app.configure({ upstreams: { lab: entry }, cache: { negative: '0s' } });
}

afterEach(() => app.close());

const hang = () => undefined;
const ways: [string, (response: ServerResponse) => unknown][] = [
  ['answers 503', response => response.writeHead(503).end()],
  ['breaks connections', response => response.destroy()],
  ['hangs', hang],
];

test.each(ways)(
  'an upstream that flaps, and %s while it is down, gets one request in each pause, and is asked by all once it answers',
  async (_, fail) => {
    await start(fail === hang ? IMPATIENT : PATIENT);
    for (let round = 0; round < 2; round += 1) {
      app.registry.intercept((__, response) => {
        fail(response);
        return true;
      });
      // What was under way when it went down, and then nothing.
      expect(await countAsked([502, 503, 504])).toBeLessThan(FAILURES + CONCURRENCY);
      expect(await countAsked([503])).toBe(0);
      for (let pause = 0; pause < 3; pause += 1) {
        nowMs += PAUSE_MS;
        expect(await countAsked([502, 503, 504])).toBe(1);
      }
      app.registry.intercept();
      nowMs += PAUSE_MS;
      // The first to ask is the one that tries: the others are told to wait until it has its answer.
      expect(await countAsked([404, 503])).toBeGreaterThan(0);
      // A HEAD that is refused says nothing about the GET: a tag that is not there is asked for by both.
      expect(await countAsked([404])).toBe(2 * CLIENTS * TRIES);
    }
  },
);

/** All clients ask, and again at once, each for a tag that nobody has asked for. Gives what reached the upstream of it. */
async function countAsked(statuses: readonly number[]): Promise<number> {
  app.registry.requests.length = 0;
  const clients = Array.from({ length: CLIENTS }, async () => {
    for (let at = 0; at < TRIES; at += 1) {
      const { status } = await app.request(`/v2/lab/library/app${wanted++}/manifests/1`);
      expect(statuses).toContain(status);
    }
  });
  await Promise.all(clients);
  return app.registry.requests.length;
}
