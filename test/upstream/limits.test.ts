// How much an upstream is asked: at a time, in a time, and not before the time it asks for.
import type { ServerResponse } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import type { UpstreamEntry } from '../../src/upstream/registry/registry-client.ts';
import { createTestClock, failure, json, listen, openUpstream } from './server.ts';

const ZERO = digestOf(Buffer.from('nothing'));

describe('calls at a time', () => {
  async function startHeld(policy: Partial<UpstreamEntry>) {
    const held: ServerResponse[] = [];
    const server = await listen((_, res) => held.push(res));
    return { held, server, upstream: openUpstream({ url: server.url, ...policy }) };
  }

  test('are as many as configured: the others wait in line, and all get their answer', async () => {
    const { held, server, upstream } = await startHeld({ concurrency: 2 });
    const calls = Array.from({ length: 6 }, (_, at) => upstream.getManifest('a', `t${at}`));
    for (let answered = 0; answered < 6; answered++) {
      await expect.poll(() => held.length).toBeGreaterThan(0);
      expect(held.length).toBeLessThanOrEqual(2);
      held.shift()?.end('{}');
    }
    await Promise.all(calls);
    // Two at a time, each on a connection of its own, may overtake each other on the way.
    expect(server.requests.map(({ url }) => url).sort()).toEqual(
      [0, 1, 2, 3, 4, 5].map(at => `/v2/a/manifests/t${at}`),
    );
  });

  test('are refused where the line is full, with a Retry-After', async () => {
    const { held, upstream } = await startHeld({ concurrency: 1, queue: 1 });
    const calls = [upstream.getManifest('a', '1'), upstream.getManifest('a', '2')];
    expect(await failure(upstream.getManifest('a', '3'))).toMatchObject({ status: 503, retryAfterSeconds: 5 });
    for (const _ of calls) {
      await expect.poll(() => held.length).toBe(1);
      held.shift()?.end('{}');
    }
    await Promise.all(calls);
  });

  test('include a blob until its body is over, or given up', async () => {
    const server = await listen((_, res) => res.end('bytes'));
    const upstream = openUpstream({ url: server.url, concurrency: 1 });
    for (const end of [(body: ReadableStream) => buffer(body), (body: ReadableStream) => body.cancel()]) {
      server.requests.length = 0;
      const { body } = await upstream.openBlob('a', ZERO);
      const next = upstream.getManifest('a', 'b');
      await new Promise(resolve => setImmediate(resolve));
      expect(server.requests).toHaveLength(1);
      await end(body);
      await next;
    }
  });

  test('are not waited for by a caller who leaves', async () => {
    const { held, server, upstream } = await startHeld({ concurrency: 1 });
    const first = upstream.getManifest('a', '1');
    const leave = new AbortController();
    const second = upstream.getManifest('a', '2', { signal: leave.signal });
    leave.abort(new Error('gone'));
    await expect(second).rejects.toThrow('gone');
    await expect.poll(() => held.length).toBe(1);
    held.shift()?.end('{}');
    await first;
    expect(server.requests).toHaveLength(1);
  });
});

describe('requests in a time', () => {
  const rate = { count: 2, perMs: 10_000 };

  test('wait for their turn', async () => {
    const clock = createTestClock();
    const server = await listen((_, res) => res.end('{}'));
    const upstream = openUpstream({ url: server.url, rate }, { clock });
    for (let at = 0; at < 5; at++) await upstream.getManifest('a', 'b');
    expect(clock.waits).toEqual([10_000, 10_000]);
  });

  test('include those that are sent again', async () => {
    const clock = createTestClock();
    const server = await listen((_, res) => json(res, 503, {}));
    await failure(
      openUpstream({ url: server.url, rate }, { clock, retries: 3, retryDelayMs: 0 }).getManifest('a', 'b'),
    );
    expect(clock.waits.filter(ms => ms > 0)).toEqual([10_000]);
  });

  test('are refused where they would wait for too long, with a Retry-After', async () => {
    const clock = createTestClock();
    const server = await listen((_, res) => res.end('{}'));
    const upstream = openUpstream({ url: server.url, rate: { count: 1, perMs: 60_000 } }, { clock });
    await upstream.getManifest('a', 'b');
    clock.pass(15_000);
    expect(await failure(upstream.getManifest('a', 'b'))).toMatchObject({ status: 429, retryAfterSeconds: 45 });
    clock.pass(20_000);
    await upstream.getManifest('a', 'b');
    expect([server.requests.length, clock.waits]).toEqual([2, [25_000]]);
  });

  test('are not held up by a clock that is set back', async () => {
    const clock = createTestClock();
    const server = await listen((_, res) => res.end('{}'));
    const upstream = openUpstream({ url: server.url, rate }, { clock });
    for (let at = 0; at < 2; at++) await upstream.getManifest('a', 'b');
    clock.pass(-24 * 3_600_000);
    await upstream.getManifest('a', 'b');
    expect(clock.waits).toEqual([]);
  });
});

describe('what an upstream says of its limits', () => {
  async function startLimited(headers: Record<string, string>, status = 200) {
    const clock = createTestClock();
    let isLimited = true;
    const server = await listen((_, res) => (isLimited ? json(res, status, {}, headers) : json(res, 200, {})));
    const upstream = openUpstream({ url: server.url }, { clock });
    await upstream.getManifest('a', 'b').catch(() => {});
    isLimited = false;
    return { clock, server, upstream };
  }

  test('a Retry-After of a 429 is waited for before anything is asked again', async () => {
    const { clock, server, upstream } = await startLimited({ 'retry-after': '77' }, 429);
    clock.pass(50_000);
    for (const call of [upstream.headManifest('a', 'b'), upstream.openBlob('a', ZERO), upstream.listTags('a', {})]) {
      expect(await failure(call)).toMatchObject({ code: 'TOOMANYREQUESTS', retryAfterSeconds: 27 });
    }
    expect(server.requests).toHaveLength(1);
    clock.pass(27_000);
    await upstream.getManifest('a', 'b');
    expect(server.requests).toHaveLength(2);
  });

  test('a Retry-After is over when the clock is set back', async () => {
    const { clock, upstream } = await startLimited({ 'retry-after': '77' }, 429);
    clock.pass(-3_600_000);
    await upstream.getManifest('a', 'b');
  });

  test.each<[string, Record<string, string>, number]>([
    ['one field', { ratelimit: '"default";r=0;t=30' }, 30],
    ['fields of their own', { 'ratelimit-remaining': '0', 'ratelimit-reset': '30' }, 30],
    ['a window and no time', { 'ratelimit-limit': '100;w=21600', 'ratelimit-remaining': '0;w=21600' }, 60],
    ['a time beyond reason', { 'ratelimit-remaining': '0', 'ratelimit-reset': '99999999' }, 3600],
  ])('with nothing left of a limit, no manifest is got until it begins again: %s', async (_, headers, seconds) => {
    const { clock, server, upstream } = await startLimited(headers);
    expect(await failure(upstream.getManifest('a', 'b'))).toMatchObject({ status: 429, retryAfterSeconds: seconds });
    await upstream.headManifest('a', 'b');
    await (await upstream.openBlob('a', ZERO)).body.cancel();
    expect(server.requests.map(({ method }) => method)).toEqual(['GET', 'HEAD', 'GET']);
    clock.pass(seconds * 1000);
    await upstream.getManifest('a', 'b');
  });

  test.each<[string, Record<string, string>]>([
    ['some left', { 'ratelimit-remaining': '10;w=21600' }],
    ['some left, in one field', { ratelimit: '"default";r=50;t=30' }],
    ['junk', { ratelimit: 'a;r=x', 'ratelimit-remaining': 'none' }],
    ['a Retry-After of a success', { 'retry-after': '10' }],
  ])('means nothing where there is %s', async (_, headers) => {
    const { upstream } = await startLimited(headers);
    await upstream.getManifest('a', 'b');
  });
});
