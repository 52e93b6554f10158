// Events of several processes that share records: each delivers its own, and what one leaves behind another delivers.
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import type { EventsDeps } from '../../src/events/events.ts';
import { createSharedLocks, LEASES } from '../../src/state/locks.ts';
import { type RecordStore, RecordStoreAway } from '../../src/state/store.ts';
import { createMemoryStore } from '../support/memory-records.ts';
import { LIMITS, numbers, open, push, tags } from './open.ts';
import { type Receiver, receive } from './receiver.ts';

let store: RecordStore;

beforeEach(() => {
  store = createMemoryStore();
});

/** A process, until it is killed: then nothing that it writes arrives, and its locks are free. */
function start({ url }: Receiver, deps: Partial<EventsDeps> = {}) {
  let isDead = false;
  const leases = new Set<string>();
  const reached: RecordStore = {
    ...store,
    async write(changes, options) {
      if (isDead) throw new RecordStoreAway('killed');
      await store.write(changes, options);
      for (const { kind, collection, key } of changes) if (kind === 'put' && collection === LEASES) leases.add(key);
    },
    async put(...record) {
      if (isDead) throw new RecordStoreAway('killed');
      await store.put(...record);
    },
    async delete(...record) {
      if (isDead) throw new RecordStoreAway('killed');
      return store.delete(...record);
    },
  };
  const records = { ...reached, locks: createSharedLocks({ store: reached, pollMs: 2 }) };
  const events = open([{ url }], { records, adoptEveryMs: 5, ...deps });
  return {
    ...events,
    async kill() {
      isDead = true;
      for (const key of leases) await store.delete(LEASES, key);
    },
  };
}

const sentTo = (...receivers: readonly Receiver[]) =>
  receivers.flatMap(({ posts }) => posts.flatMap(post => tags(post.events))).toSorted();

test('are delivered once, each by the process in which it happened', async () => {
  const receivers = [await receive(), await receive()] as const;
  const processes = receivers.map(receiver => start(receiver));
  for (const tag of numbers(20)) await processes[Number(tag) % 2]?.emit(push(tag));
  for (const each of processes) await each.close();
  expect(sentTo(receivers[0])).toEqual(
    numbers(20)
      .filter(tag => Number(tag) % 2 === 0)
      .toSorted(),
  );
  expect(sentTo(...receivers)).toEqual(numbers(20).toSorted());
  expect(await store.list('event', { limit: 9 })).toEqual([]);
});

test('of a process that is killed are delivered by another, in order', async () => {
  const [hanging, receiver] = [await receive(() => {}), await receive()];
  const dead = start(hanging, { limits: { ...LIMITS, drainMs: 0, maxBatch: 2 } });
  for (const tag of numbers(7)) await dead.emit(push(tag));
  await hanging.arrived(1);
  const other = start(receiver, { limits: { ...LIMITS, maxBatch: 3 } });
  await other.emit(push('own'));
  await dead.kill();
  await expect.poll(() => store.list('event', { limit: 9 })).toEqual([]);
  expect(receiver.posts.flatMap(post => tags(post.events))).toEqual(['own', ...numbers(7)]);
});

test('that a stop leaves are delivered by another, also what a single process has left', async () => {
  const [hanging, receiver] = [await receive(() => {}), await receive()];
  const limits = { ...LIMITS, drainMs: 0 };
  const alone = open([{ url: hanging.url }], { records: store, limits });
  await alone.emit(push('1'));
  await alone.close();
  const stopped = start(hanging, { limits });
  await stopped.emit(push('2'));
  await stopped.close();
  start(receiver);
  await expect.poll(() => sentTo(receiver)).toEqual(['1', '2']);
});

test('of those that are killed one after the other arrive all the same', async () => {
  const receiver = await receive((response, count) => response.writeHead(count % 3 === 0 ? 500 : 200).end());
  for (const tag of numbers(6)) {
    const process = start(receiver, { limits: { ...LIMITS, maxBatch: 1 } });
    await process.emit(push(tag));
    if (Number(tag) < 6) await process.kill();
    onTestFinished(() => process.kill());
  }
  await expect.poll(() => store.list('event', { limit: 9 })).toEqual([]);
  expect([...new Set(sentTo(receiver))]).toEqual(numbers(6));
});
