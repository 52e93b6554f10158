// Events outlive the process: what was not delivered before a stop or a crash is delivered after it.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { createSqliteStore } from '../../src/state/sqlite.ts';
import type { RecordStore } from '../../src/state/store.ts';
import { createMemoryStore } from '../support/memory-records.ts';
import { LIMITS, numbers, open, pull, push, remove, tags } from './open.ts';
import { receive } from './receiver.ts';

const NOW = new Date('2030-01-02T03:04:05Z');
const cutAtOnce = { ...LIMITS, drainMs: 0 };

/** Emits to an endpoint that never answers, and stops. */
async function leaveUndelivered(records: RecordStore, emitted: readonly string[], name = 'lab') {
  const hanging = await receive(() => {});
  const events = open([{ name, url: hanging.url }], { records, limits: { ...cutAtOnce, maxBatch: 4 }, now: () => NOW });
  for (const tag of emitted) events.emit(push(tag));
  await hanging.arrived(1);
  await events.close();
  return hanging.posts.flatMap(post => post.events);
}

test('delivers after a restart what was left, in order, before what is new', async () => {
  const records = createMemoryStore({ now: () => NOW });
  const before = await leaveUndelivered(records, numbers(9));
  const receiver = await receive();
  const events = open([{ url: receiver.url }], { records, now: () => new Date(NOW.getTime() + 1) });
  events.emit(push('10'));
  await events.close();
  const after = receiver.posts.flatMap(post => post.events);
  expect(tags(after)).toEqual(numbers(10));
  expect(after.slice(0, 4)).toEqual(before);
});

test('has an event on disk when emit resolves', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'veneer-events-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const [records, other] = [1, 2].map(() => createSqliteStore({ path: join(directory, 'records.db') }));
  if (!records || !other) throw new Error('two connections');
  const hanging = await receive(() => {});
  const events = open([{ url: hanging.url }], { records, limits: cutAtOnce });
  await events.emit(push('1'));
  expect(await other.list('event', { limit: 9 })).toHaveLength(1);
  await events.close();
  await records.close();
  const receiver = await receive();
  const next = open([{ url: receiver.url }], { records: other });
  await next.close();
  await other.close();
  expect(receiver.posts.flatMap(post => tags(post.events))).toEqual(['1']);
});

test('forgets events that were delivered, refused or dropped', async () => {
  const records = createMemoryStore();
  const receiver = await receive((response, count) => response.writeHead(count === 2 ? 400 : 200).end());
  const events = open([{ url: receiver.url }], { records, limits: { ...LIMITS, maxBatch: 1, maxQueued: 3 } });
  for (const event of [push('1'), remove('2'), push('3'), push('4'), pull('5')]) events.emit(event);
  await events.close();
  expect(receiver.posts.length).toBe(3);
  expect(await records.list('event', { limit: 9 })).toEqual([]);
});

test('keeps pulls in memory alone', async () => {
  const records = createMemoryStore();
  const hanging = await receive(() => {});
  const events = open([{ url: hanging.url }], { records, limits: cutAtOnce });
  events.emit(pull('1'));
  events.emit(push('2'));
  await events.close();
  expect(await records.list('event', { limit: 9 })).toHaveLength(1);
});

test('gives an endpoint its own events alone', async () => {
  const records = createMemoryStore({ now: () => NOW });
  await leaveUndelivered(records, ['1', '2', '3'], 'lab-b');
  await leaveUndelivered(records, ['4'], 'lab');
  await leaveUndelivered(records, ['5'], 'labor');
  const receiver = await receive();
  const limits = { ...LIMITS, maxBatch: 1, maxQueued: 1 };
  const events = open([{ name: 'lab', url: receiver.url }], { records, limits, now: () => NOW });
  await events.close();
  expect(receiver.posts.flatMap(post => tags(post.events))).toEqual(['4']);
  expect(await records.list('event', { limit: 9 })).toHaveLength(4);
});

test('lets go of events that nobody fetched for a week', async () => {
  let time = NOW.getTime();
  const records = createMemoryStore({ now: () => new Date(time) });
  await leaveUndelivered(records, ['1']);
  time += 7 * 86_400_000;
  expect(await records.sweep()).toBe(1);
});

test('delivers the others where one record cannot be read', async () => {
  const records = createMemoryStore({ now: () => NOW });
  await leaveUndelivered(records, numbers(3));
  const [, second = ''] = await records.list('event', { limit: 9 });
  await records.put('event', second, new TextEncoder().encode('{"id":1}'));
  const receiver = await receive();
  const events = open([{ url: receiver.url }], { records, now: () => NOW });
  await events.close();
  expect(receiver.posts.flatMap(post => tags(post.events))).toEqual(['1', '3']);
  expect(events.logged('a stored event could not be read')).toHaveLength(1);
});

test('drops the oldest where more was left than may wait', async () => {
  const records = createMemoryStore({ now: () => NOW });
  await leaveUndelivered(records, numbers(5));
  const receiver = await receive();
  const events = open([{ url: receiver.url }], { records, limits: { ...LIMITS, maxQueued: 2 }, now: () => NOW });
  await events.close();
  expect(receiver.posts.flatMap(post => tags(post.events))).toEqual(['4', '5']);
  expect(await records.list('event', { limit: 9 })).toEqual([]);
});

test('delivers from memory where the store fails', async () => {
  const fail = () => Promise.reject(new Error('disk full'));
  const records = { ...createMemoryStore(), put: fail, delete: fail, list: fail };
  const receiver = await receive();
  const events = open([{ url: receiver.url }], { records });
  events.emit(push('1'));
  await events.close();
  expect(receiver.posts.flatMap(post => tags(post.events))).toEqual(['1']);
  expect(events.logged('an event could not be stored')).toHaveLength(1);
});

test('delivers once what a slow store lists although it came meanwhile', async () => {
  const store = createMemoryStore({ now: () => NOW });
  await leaveUndelivered(store, ['1']);
  const emitted = Promise.withResolvers<void>();
  const records: RecordStore = {
    ...store,
    list: async (collection, options) => {
      await emitted.promise;
      return store.list(collection, options);
    },
  };
  const receiver = await receive();
  const events = open([{ url: receiver.url }], { records, now: () => new Date(NOW.getTime() + 1) });
  events.emit(push('2'));
  emitted.resolve();
  await events.close();
  expect(receiver.posts.flatMap(post => tags(post.events))).toEqual(['1', '2']);
});
