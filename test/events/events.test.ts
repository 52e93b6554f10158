// What endpoints get of what happens: each what it asked for, in order, once, in the envelope of the field.
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { encodeEnvelope, eventSchema } from '../../src/events/event.ts';
import { build, LIMITS, numbers, open, pull, push, remove, tags } from './open.ts';
import { accept, receive } from './receiver.ts';

const NOW = new Date('2030-01-02T03:04:05.678Z');

test('posts an event in the standard envelope', async () => {
  const receiver = await receive();
  const events = open([{ url: receiver.url }], { now: () => NOW });
  events.emit(push('1'));
  await events.close();
  const [post] = receiver.posts;
  expect(post?.headers['content-type']).toBe('application/vnd.docker.distribution.events.v2+json');
  expect(JSON.parse(post?.body ?? '')).toEqual({
    events: [
      {
        id: expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/),
        timestamp: '2030-01-02T03:04:05.678Z',
        ...push('1'),
        target: { ...push('1').target, length: 7143 },
      },
    ],
  });
});

test('posts what the documentation shows', () => {
  const [, example = ''] = /```json\n(.*?)```/s.exec(readFileSync('docs/events.md', 'utf8')) ?? [];
  const shown = JSON.parse(example);
  const events = z.object({ events: z.array(eventSchema) }).parse(shown).events;
  expect(JSON.parse(encodeEnvelope(events))).toEqual(shown);
});

test('delivers each event once and in order, many in one POST', async () => {
  const receiver = await receive();
  const events = open([{ url: receiver.url }]);
  for (const tag of numbers(120)) events.emit(push(tag));
  await events.close();
  const delivered = receiver.posts.flatMap(post => post.events);
  expect(tags(delivered)).toEqual(numbers(120));
  expect(new Set(delivered.map(({ id }) => id)).size).toBe(120);
  expect(receiver.posts.map(post => post.events.length)).toEqual([50, 50, 20]);
});

test('keeps the order where a batch is tried again while others wait', async () => {
  const receiver = await receive((response, count) => response.writeHead(count % 2 ? 500 : 204).end());
  const events = open([{ url: receiver.url }], { limits: { ...LIMITS, maxBatch: 3 } });
  for (const tag of numbers(9)) events.emit(push(tag));
  await events.close();
  const accepted = receiver.posts.filter((_, index) => index % 2 === 1);
  expect(tags(accepted.flatMap(post => post.events))).toEqual(numbers(9));
  expect(receiver.posts).toHaveLength(6);
});

test('tells each endpoint only the actions it asked for', async () => {
  const [pushes, gone] = [await receive(), await receive()];
  const events = open([
    { name: 'pushes', url: pushes.url, on: ['push', 'build'] },
    { name: 'gone', url: gone.url, on: ['delete'] },
  ]);
  for (const event of [push('1'), pull('2'), remove('3'), build('4')]) events.emit(event);
  await events.close();
  expect(pushes.posts.flatMap(post => tags(post.events))).toEqual(['1', '4']);
  expect(gone.posts.flatMap(post => tags(post.events))).toEqual(['3']);
});

test.each([
  [['**'], ['app', 'local/app', 'local/team/app', 'docker.io/library/alpine']],
  [['local/**'], ['local/app', 'local/team/app']],
  [['local/*'], ['local/app']],
  [
    ['app', 'docker.io/**'],
    ['app', 'docker.io/library/alpine'],
  ],
  [['local'], []],
  [[], []],
])('tells of the repositories that match %j', async (repositories, expected) => {
  const receiver = await receive();
  const events = open([{ url: receiver.url, repositories }]);
  for (const name of ['app', 'local/app', 'local/team/app', 'docker.io/library/alpine']) events.emit(push('1', name));
  await events.close();
  expect(receiver.posts.flatMap(post => post.events.map(({ target }) => target.repository))).toEqual(expected);
});

test('lets no endpoint hold up another', async () => {
  const [hanging, ready] = [await receive(() => {}), await receive()];
  const events = open(
    [
      { name: 'hanging', url: hanging.url },
      { name: 'ready', url: ready.url },
    ],
    { limits: { ...LIMITS, drainMs: 0 } },
  );
  events.emit(push('1'));
  await hanging.arrived(1);
  events.emit(push('2'));
  await ready.arrived(2);
  expect(hanging.posts).toHaveLength(1);
});

test('drops the oldest of too many, counts them, and says so once a minute', async () => {
  let time = NOW.getTime();
  let release = () => {};
  const receiver = await receive((response, count) => {
    if (count === 1) release = () => accept(response, count);
    else accept(response, count);
  });
  const limits = { ...LIMITS, maxBatch: 2, maxQueued: 3 };
  const events = open([{ url: receiver.url }], { limits, now: () => new Date(time) });
  const dropped = () => events.logged('events dropped: too many are waiting for the endpoint').map(line => line.events);
  events.emit(push('under way'));
  await receiver.arrived(1);
  for (const tag of numbers(6)) events.emit(push(tag));
  expect(dropped()).toEqual([1]);
  time += 60_000;
  events.emit(push('7'));
  expect(dropped()).toEqual([1, 3]);
  events.emit(push('8'));
  release();
  await events.close();
  expect(dropped()).toEqual([1, 3, 1]);
  expect(receiver.posts.map(post => tags(post.events))).toEqual([['under way'], ['6', '7'], ['8']]);
});

test('cuts what is under way when the time to drain is over, and says what is left', async () => {
  const receiver = await receive(() => {});
  const events = open([{ url: receiver.url }], { limits: { ...LIMITS, maxBatch: 2, drainMs: 5 } });
  for (const event of [push('1'), pull('2'), push('3')]) events.emit(event);
  await receiver.arrived(1);
  await events.close();
  expect(events.logged('events not delivered before the stop')).toMatchObject([{ kept: 2, lost: 1 }]);
  expect(receiver.posts).toHaveLength(1);
});

test('cuts a wait that the endpoint asked for when the time to drain is over', async () => {
  const receiver = await receive(response => response.writeHead(503, { 'retry-after': '300' }).end());
  const events = open([{ url: receiver.url }], { limits: { ...LIMITS, drainMs: 5 } });
  events.emit(push('1'));
  await receiver.arrived(1);
  await events.close();
  expect(events.logged('events not delivered before the stop')).toMatchObject([{ kept: 1, lost: 0 }]);
});

test('cuts a back-off when the time to drain is over', async () => {
  const receiver = await receive(response => response.writeHead(500).end());
  const backoff = { minMs: 3_600_000, maxMs: 3_600_000, hasJitter: true };
  const events = open([{ url: receiver.url }], { backoff, limits: { ...LIMITS, drainMs: 5 } });
  events.emit(push('1'));
  await receiver.arrived(1);
  await events.close();
  expect(events.logged('events not delivered before the stop')).toMatchObject([{ kept: 1, lost: 0 }]);
});

test('takes no event once it is closed', async () => {
  const receiver = await receive();
  const events = open([{ url: receiver.url }]);
  await events.close();
  events.emit(push('1'));
  await events.close();
  expect(receiver.posts).toEqual([]);
  expect(events.lines).toEqual([]);
});

test('cuts a long user agent', async () => {
  const receiver = await receive();
  const events = open([{ url: receiver.url }]);
  events.emit({ ...push('1'), request: { method: 'PUT', useragent: 'x'.repeat(9999) } });
  await events.close();
  expect(receiver.posts[0]?.events[0]?.request.useragent).toHaveLength(512);
});

test('leaves no connection open', async () => {
  const ended = Promise.withResolvers<string>();
  const receiver = await receive(response => {
    response.socket?.on('close', () => ended.resolve('ended'));
    response.writeHead(200, { connection: 'keep-alive', 'keep-alive': 'timeout=600' }).end();
  });
  const events = open([{ url: receiver.url }]);
  events.emit(push('1'));
  await events.close();
  expect(await ended.promise).toBe('ended');
});
