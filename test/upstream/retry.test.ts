// Sending again: what passes, how long we wait for it, and when we leave that to the client.
import type { ServerResponse } from 'node:http';
import { expect, test } from 'vitest';
import { createTestClock, failure, json, listen, openUpstream, type TestClock } from './server.ts';

test.each([
  ['a status 429', 429],
  ['a status 503', 503],
  ['a connection that broke', 'cut'],
])('reads again after %s', async (_, fault) => {
  const server = await listen((req, res) => {
    if (server.requests.length > 1) res.end('{}');
    else if (typeof fault === 'number') json(res, fault, {}, { 'retry-after': '0' });
    else req.destroy();
  });
  await openUpstream({ url: server.url }, { retries: 1 }).getManifest('a', 'b');
  expect(server.requests).toHaveLength(2);
});

const now = 'Wed, 01 Jan 2030 00:00:00 GMT';

test.each<[string, Record<string, string>, number[]]>([
  ['twice as long each time', {}, [100, 200, 400]],
  ['the seconds that the upstream asks for', { 'retry-after': '3' }, [3000, 3000, 3000]],
  [
    'until the date that it asks for',
    { 'retry-after': 'Wed, 01 Jan 2030 00:00:02 GMT', date: now },
    [2000, 2000, 2000],
  ],
  ['not for a date that is over', { 'retry-after': 'Tue, 31 Dec 2029 00:00:00 GMT', date: now }, [0, 0, 0]],
  ['as ever for what is no time', { 'retry-after': 'soon' }, [100, 200, 400]],
  ['not at all for more than five seconds', { 'retry-after': '6' }, []],
])('waits %s', async (_, headers, waits) => {
  const clock = createTestClock();
  const server = await listen((_, res) => json(res, 429, {}, headers));
  const options = { retries: 3, retryDelayMs: 100, clock, random: () => 1 };
  await failure(openUpstream({ url: server.url }, options).getManifest('a', 'b'));
  expect(clock.waits).toEqual(waits);
  expect(server.requests).toHaveLength(waits.length + 1);
});

test.each([
  ['by up to a half of its own wait', {}, [50, 100, 200], [100, 200, 400]],
  ['never to less than it was asked for', { 'retry-after': '3' }, [3000, 3000, 3000], [3100, 3100, 3100]],
])('spreads who failed together %s', async (_, headers, atLeast, atMost) => {
  const server = await listen((_, res) => json(res, 429, {}, headers));
  const all = Array.from({ length: 8 }, () => createTestClock());
  const ask = (clock: TestClock) =>
    failure(openUpstream({ url: server.url }, { retries: 3, retryDelayMs: 100, clock }).getManifest('a', 'b'));
  await Promise.all(all.map(ask));
  for (const at of [0, 1, 2]) {
    const waits = all.map(clock => clock.waits[at] ?? Number.NaN);
    expect(new Set(waits).size).toBeGreaterThan(1);
    expect(Math.min(...waits)).toBeGreaterThanOrEqual(atLeast[at] ?? Number.NaN);
    expect(Math.max(...waits)).toBeLessThanOrEqual(atMost[at] ?? Number.NaN);
  }
});

test.each<[string, string | undefined, number | undefined]>([
  ['seconds', '77', 77],
  ['a date', 'Wed, 01 Jan 2030 00:01:17 GMT', 77],
  ['a date that is over', 'Tue, 31 Dec 2029 00:00:00 GMT', 0],
  ['a year', '31536000', 86_400],
  ['more than a number holds', '9'.repeat(400), 86_400],
  ['a date in a thousand years', 'Tue, 01 Jan 3030 00:00:00 GMT', 86_400],
  ['less than nothing', '-1', undefined],
  ['text', 'soon', undefined],
  ['nothing', undefined, undefined],
])('passes on a Retry-After of %s, at most a day', async (_, value, expected) => {
  const headers = { date: now, ...(value !== undefined && { 'retry-after': value }) };
  const server = await listen((_, res) => json(res, 429, {}, headers));
  const error = await failure(openUpstream({ url: server.url }).getManifest('a', 'b'));
  expect(error).toMatchObject({ status: 429, code: 'TOOMANYREQUESTS', retryAfterSeconds: expected });
});

test.each([
  ['status 404', (res: ServerResponse) => json(res, 404, {}), 404],
  ['status 501', (res: ServerResponse) => json(res, 501, {}), 502],
])('does not read again after %s', async (_, answer, status) => {
  const clock = createTestClock();
  const server = await listen((_, res) => answer(res));
  const error = await failure(openUpstream({ url: server.url }, { retries: 3, clock }).getManifest('a', 'b'));
  expect([error, server.requests.length, clock.waits]).toEqual([expect.objectContaining({ status }), 1, []]);
});

test('stops waiting when the caller leaves', async () => {
  const leave = new AbortController();
  const server = await listen((_, res) => {
    json(res, 503, {}, { 'retry-after': '5' });
    res.on('close', () => leave.abort(new Error('gone')));
  });
  const work = openUpstream({ url: server.url }, { retries: 3 }).getManifest('a', 'b', { signal: leave.signal });
  await expect(work).rejects.toThrow('gone');
  expect(server.requests).toHaveLength(1);
});
