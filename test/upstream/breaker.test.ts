// The breaker: an upstream that fails again and again is left alone, tried by one call after a pause, and asked as ever once it answers.
import type { ServerResponse } from 'node:http';
import { expect, test } from 'vitest';
import type { BreakerChange } from '../../src/upstream/limits/breaker.ts';
import { PATIENT } from '../support/patience.ts';
import { createTestClock, failure, json, listen, open } from './server.ts';

const PAUSE_MS = 10_000;
const ok = (res: ServerResponse) => res.end('{}');
const broken = (res: ServerResponse) => json(res, 503, {});

/** An upstream that answers as it is told to, with a breaker that opens after three failures. */
async function startUpstream() {
  let answer: (res: ServerResponse) => unknown = ok;
  const clock = createTestClock();
  const changes: BreakerChange[] = [];
  const server = await listen((_, res) => answer(res));
  const entry = { url: server.url, breaker: { failures: 3, pauseMs: PAUSE_MS } };
  const upstream = open({ lab: entry }, { clock, onBreaker: change => changes.push(change) }).get('lab');
  return {
    upstream,
    clock,
    changes,
    server,
    answer(next: (res: ServerResponse) => unknown) {
      answer = next;
    },
    get: () => upstream.getManifest('a', 'b'),
    async fail(times: number) {
      for (let at = 0; at < times; at++) await failure(upstream.getManifest('a', 'b'));
    },
  };
}

test('opens after failures in a row: then the upstream is not asked, and the error says why and for how long', async () => {
  const { answer, fail, get, server, changes } = await startUpstream();
  answer(broken);
  await fail(3);
  expect(await failure(get())).toMatchObject({
    code: 'UNAVAILABLE',
    status: 503,
    retryAfterSeconds: 10,
    message:
      'lab: not contacted for 10 s after 3 failures in a row, the last: lab: a/manifests/b: status 503 (UNKNOWN): try again later',
  });
  expect(server.requests).toHaveLength(3);
  expect(changes).toMatchObject([{ upstream: 'lab', state: 'open', reason: expect.stringContaining('status 503') }]);
});

test('lets one call through after its pause, and no other beside it', async () => {
  const { answer, fail, get, server, clock } = await startUpstream();
  answer(broken);
  await fail(3);
  clock.pass(PAUSE_MS);
  const held: ServerResponse[] = [];
  answer(res => held.push(res));
  const probe = get();
  await expect.poll(() => held.length).toBe(1);
  expect(await failure(get())).toMatchObject({ status: 503, retryAfterSeconds: 1 });
  for (const res of held) res.end('{}');
  await probe;
  expect(server.requests).toHaveLength(4);
});

test('closes when that call succeeds', async () => {
  const { answer, fail, get, server, clock, changes } = await startUpstream();
  answer(broken);
  await fail(3);
  clock.pass(PAUSE_MS);
  answer(ok);
  await get();
  await get();
  expect(server.requests).toHaveLength(5);
  expect(changes.map(({ state }) => state)).toEqual(['open', 'closed']);
});

test('stays open for another pause when it fails', async () => {
  const { answer, fail, get, server, clock, changes } = await startUpstream();
  answer(broken);
  await fail(3);
  clock.pass(PAUSE_MS);
  await fail(1);
  clock.pass(PAUSE_MS - 1);
  await fail(1);
  expect(server.requests).toHaveLength(4);
  clock.pass(1);
  answer(ok);
  await get();
  expect(changes.map(({ state }) => state)).toEqual(['open', 'closed']);
});

test('tries another call when the one that was let through left', async () => {
  const { upstream, answer, fail, get, clock } = await startUpstream();
  answer(broken);
  await fail(3);
  clock.pass(PAUSE_MS);
  const leave = new AbortController();
  answer(() => leave.abort(new Error('gone')));
  await expect(upstream.getManifest('a', 'b', { signal: leave.signal })).rejects.toThrow('gone');
  answer(ok);
  await get();
});

test('is not kept open by a clock that is set back', async () => {
  const { answer, fail, get, clock } = await startUpstream();
  answer(broken);
  await fail(3);
  clock.pass(-24 * 3_600_000);
  answer(ok);
  await get();
});

test.each<[string, (res: ServerResponse) => unknown]>([
  ['what is not there', res => json(res, 404, {})],
  ['what may not be had', res => json(res, 403, {})],
  ['a limit', res => json(res, 429, {})],
  ['a lie', res => res.writeHead(200, { 'docker-content-digest': `sha256:${'0'.repeat(64)}` }).end('{}')],
])('is not opened by %s', async (_, respond) => {
  const { answer, fail, server } = await startUpstream();
  answer(respond);
  await fail(6);
  expect(server.requests).toHaveLength(6);
});

test.each<[string, (res: ServerResponse) => unknown]>([
  ['a broken connection', res => res.destroy()],
  ['a hang', () => undefined],
  ['a document that breaks off', res => res.writeHead(200, { 'content-length': 9 }).write('{') && res.destroy()],
])('is opened by %s', async (_, respond) => {
  let asked = 0;
  const server = await listen((__, res) => {
    asked += 1;
    respond(res);
  });
  const timeouts = { ...PATIENT, headersMs: 200 };
  const upstreams = open({ lab: { url: server.url, breaker: { failures: 1, pauseMs: PAUSE_MS } } }, { timeouts });
  await failure(upstreams.get('lab').getManifest('a', 'b'));
  expect(await failure(upstreams.get('lab').getManifest('a', 'b'))).toMatchObject({ code: 'UNAVAILABLE' });
  await expect.poll(() => asked).toBe(1);
});

test.each([
  ['F F S F F S F F', 0],
  ['F F F', 1],
  ['S F F S F F F', 1],
])('counts only failures in a row: %s', async (script, opened) => {
  const { answer, get, changes } = await startUpstream();
  for (const step of script.split(' ')) {
    answer(step === 'F' ? broken : ok);
    await get().catch(() => {});
  }
  expect(changes).toHaveLength(opened);
});

test('a call that our own rate refuses says nothing of the upstream', async () => {
  const clock = createTestClock();
  const server = await listen((_, res) => broken(res));
  const policy = { breaker: { failures: 1, pauseMs: PAUSE_MS }, rate: { count: 1, perMs: 3_600_000 } };
  const changes: BreakerChange[] = [];
  const upstreams = open({ lab: { url: server.url, ...policy } }, { clock, onBreaker: change => changes.push(change) });
  await failure(upstreams.get('lab').getManifest('a', 'b'));
  clock.pass(PAUSE_MS);
  expect(await failure(upstreams.get('lab').getManifest('a', 'b'))).toMatchObject({ status: 429 });
  expect(changes.map(({ state }) => state)).toEqual(['open']);
});
