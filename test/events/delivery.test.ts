// One batch and an endpoint that fails: what is tried again, when, and what is given up.
import type { ServerResponse } from 'node:http';
import { expect, test } from 'vitest';
import { findFreePort } from '../clients/support/process.ts';
import { numbers, open, push, tags } from './open.ts';
import { accept, receive } from './receiver.ts';

const NOW = new Date('2030-01-02T03:04:05Z');

const status =
  (code: number, headers: Record<string, string> = {}) =>
  (response: ServerResponse) =>
    response.writeHead(code, headers).end('no');

test.each<[string, (response: ServerResponse) => void, string]>([
  ['500', status(500), 'status 500'],
  ['503', status(503), 'status 503'],
  ['408', status(408), 'status 408'],
  ['429', status(429), 'status 429'],
  ['a redirect', status(302, { location: '/elsewhere' }), 'status 302, and redirects are not followed'],
  ['a reset', response => response.socket?.resetAndDestroy(), 'connection failed (ECONNRESET)'],
  ['a cut', response => response.socket?.destroy(), 'connection failed (UND_ERR_SOCKET)'],
  ['something else than HTTP', response => response.socket?.end('what?'), 'connection failed'],
  ['silence', () => {}, 'timed out'],
])('tries again after %s', async (name, fail, reason) => {
  const receiver = await receive((response, count) => (count === 1 ? fail(response) : accept(response, count)));
  const events = open([{ url: receiver.url, timeoutMs: name === 'silence' ? 2000 : 10_000 }]);
  events.emit(push('1'));
  await events.close();
  expect(receiver.posts).toHaveLength(2);
  expect(receiver.posts[1]?.body).toBe(receiver.posts[0]?.body);
  expect(receiver.posts.map(post => post.path)).toEqual(['/hook', '/hook']);
  expect(events.logged('events not delivered yet')).toMatchObject([{ endpoint: 'lab', reason, attempt: 1 }]);
});

test('waits twice as long each time, up to a limit', async () => {
  const receiver = await receive((response, count) => (count < 6 ? status(500)(response) : accept(response, count)));
  const events = open([{ url: receiver.url, retries: 9 }]);
  events.emit(push('1'));
  await events.close();
  expect(events.logged('events not delivered yet').map(line => line.waitMs)).toEqual([1, 2, 4, 4, 4]);
});

test.each([
  ['seconds', '7', 7000],
  ['a date', 'Wed, 02 Jan 2030 03:04:14 GMT', 9000],
  ['a date that is over', 'Wed, 02 Jan 2030 03:04:04 GMT', undefined],
  ['more than it may ask', '999999', 600_000],
  ['nonsense', 'soon', undefined],
])('waits as Retry-After says: %s', async (_, retryAfter, expected) => {
  const receiver = await receive((response, count) =>
    count === 1 ? status(429, { 'retry-after': retryAfter })(response) : accept(response, count),
  );
  const waits: number[] = [];
  const wait = async (ms: number) => void waits.push(ms);
  const events = open([{ url: receiver.url }], { now: () => NOW, wait });
  events.emit(push('1'));
  await events.close();
  expect(receiver.posts).toHaveLength(2);
  // The back-off of 1 ms is part of the wait.
  expect(waits).toEqual(expected === undefined ? [] : [expected - 1]);
});

test.each([400, 401, 403, 404, 410, 413, 422])('takes %i as final and continues', async code => {
  const receiver = await receive((response, count) => (count === 1 ? status(code)(response) : accept(response, count)));
  const events = open([{ url: receiver.url }]);
  events.emit(push('1'));
  await receiver.arrived(1);
  events.emit(push('2'));
  await events.close();
  expect(receiver.posts.map(post => tags(post.events))).toEqual([['1'], ['2']]);
  const reason = `status ${code}`;
  expect(events.logged('events dropped: the endpoint refused them')).toMatchObject([{ events: 1, reason }]);
});

test('drops a batch when the retries are used up, and continues', async () => {
  const receiver = await receive((response, count) => (count < 4 ? status(500)(response) : accept(response, count)));
  const events = open([{ url: receiver.url, retries: 2 }], { limits: { maxBatch: 1, maxQueued: 9, drainMs: 9000 } });
  for (const tag of numbers(2)) events.emit(push(tag));
  await events.close();
  expect(receiver.posts.map(post => tags(post.events))).toEqual([['1'], ['1'], ['1'], ['2']]);
  expect(events.logged('events dropped: the endpoint refused them')).toMatchObject([{ reason: 'status 500' }]);
});

test.each([200, 201, 204])('takes %i as delivered', async code => {
  const receiver = await receive(response => response.writeHead(code).end());
  const events = open([{ url: receiver.url }]);
  events.emit(push('1'));
  await events.close();
  expect(receiver.posts).toHaveLength(1);
  expect(events.logged('events delivered')).toMatchObject([{ events: 1 }]);
});

test('goes nowhere that a redirect points to', async () => {
  const other = await receive();
  const receiver = await receive(response => response.writeHead(308, { location: other.url.href }).end());
  const events = open([{ url: receiver.url, retries: 1 }]);
  events.emit(push('1'));
  await events.close();
  expect([receiver.posts.length, other.posts.length]).toEqual([2, 0]);
});

test('cuts an answer that never ends, and believes its status', async () => {
  const sent = Promise.withResolvers<number>();
  const receiver = await receive(response => {
    const chunk = Buffer.alloc(16 * 1024);
    let bytes = 0;
    const more = () => {
      while (!response.destroyed && response.write(chunk)) bytes += chunk.byteLength;
    };
    response.on('drain', more).on('close', () => sent.resolve(bytes));
    response.writeHead(200);
    more();
  });
  const events = open([{ url: receiver.url }]);
  events.emit(push('1'));
  expect(await sent.promise).toBeLessThan(16 * 1024 * 1024);
  await events.close();
  expect(receiver.posts).toHaveLength(1);
});

test('believes a status whose body hangs', async () => {
  const receiver = await receive(response => response.writeHead(200).write('still thinking'));
  const events = open([{ url: receiver.url, timeoutMs: 2000 }]);
  events.emit(push('1'));
  await events.close();
  expect(receiver.posts).toHaveLength(1);
  expect(events.logged('events delivered')).toHaveLength(1);
});

test('sends the headers and the credentials of the address, which never show in the log', async () => {
  const failures = [
    status(500),
    status(302),
    (r: ServerResponse) => r.socket?.resetAndDestroy(),
    () => {},
    status(404),
  ];
  const receiver = await receive((response, count) => failures[count - 1]?.(response));
  const secret = new URL(`${receiver.url}/canary-path?key=canary-query`);
  secret.username = 'canary-name';
  secret.password = 'canary pass%';
  const unreachable = new URL(secret);
  unreachable.port = `${await findFreePort()}`;
  const headers = { 'X-Token': 'canary-header' };
  const events = open([
    { name: 'one', url: secret, headers, retries: 4, timeoutMs: 2000 },
    { name: 'two', url: unreachable, headers, retries: 1 },
  ]);
  events.emit(push('1'));
  await events.close();
  expect(receiver.posts).toHaveLength(5);
  for (const post of receiver.posts) {
    expect(post.path).toBe('/hook/canary-path?key=canary-query');
    expect(post.headers['x-token']).toBe('canary-header');
    expect(post.headers.authorization).toBe(`Basic ${btoa('canary-name:canary pass%')}`);
  }
  expect(events.logged('events dropped: the endpoint refused them')).toHaveLength(2);
  expect(events.lines.join('')).not.toMatch(/canary|hook/);
});

test('lets a configured header win over its own, whatever its case', async () => {
  const receiver = await receive();
  const url = new URL(receiver.url);
  url.username = 'ada';
  const headers = { Authorization: 'Bearer x', 'Content-Type': 'application/json' };
  const events = open([{ url, headers }]);
  events.emit(push('1'));
  await events.close();
  expect(receiver.posts[0]?.headers).toMatchObject({ authorization: 'Bearer x', 'content-type': 'application/json' });
});
