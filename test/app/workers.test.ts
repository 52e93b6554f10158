// What workers share by way of their primary process: locks, the usage of the cache, and metrics. Here all of them are in one process.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { expect, onTestFinished, test } from 'vitest';
import { createLockDesk } from '../../src/app/primary.ts';
import { createOpenContent } from '../../src/app/stored-content.ts';
import {
  createWorker,
  createWorkerLocks,
  type FromWorker,
  type LockRequest,
  type ToWorker,
} from '../../src/app/worker.ts';
import { type CacheNews, createSharedUsage } from '../../src/cache/eviction/shared-usage.ts';
import { createUsage } from '../../src/cache/eviction/usage.ts';
import { createDiskStore } from '../../src/content/disk.ts';
import { createLeasedStore, type LeasedStore } from '../../src/content/leased-store.ts';
import { createHostedStore } from '../../src/hosted/store.ts';
import { createMemory } from '../../src/memory.ts';
import { createMeter } from '../../src/observe/metrics.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { RecordStoreBusy } from '../../src/state/store.ts';
import { createMemoryStore } from '../support/memory-records.ts';

/** As over the channels: each message arrives later. */
function connectLocks(desk: ReturnType<typeof createLockDesk>, worker: number, waitMs?: number) {
  const { locks, settle } = createWorkerLocks(
    request => setImmediate(() => desk.take(worker, request, answer => setImmediate(() => settle(answer)))),
    waitMs,
  );
  return locks;
}

test('work under a lock runs alone, whichever worker it is of', async () => {
  const desk = createLockDesk();
  const workers = [1, 2, 3].map(worker => connectLocks(desk, worker));
  let running = 0;
  const most: number[] = [];
  const work = async () => {
    running += 1;
    most.push(running);
    await new Promise(resolve => setImmediate(resolve));
    running -= 1;
  };
  await Promise.all(workers.flatMap(locks => [0, 1, 2, 3].map(() => locks.withLock('links', work))));
  expect(most).toEqual(Array.from({ length: 12 }, () => 1));
});

test('a lock that another worker has is not free, and another key is', async () => {
  const desk = createLockDesk();
  const [one, two] = [connectLocks(desk, 1), connectLocks(desk, 2)];
  const held = Promise.withResolvers<void>();
  const holding = one.withLock('links', () => held.promise);
  await expect.poll(() => two.withFreeLock('links', async () => true)).toBeUndefined();
  expect(await two.withFreeLock('other', async () => true)).toBe(true);
  held.resolve();
  await holding;
  await expect.poll(() => two.withFreeLock('links', async () => true)).toBe(true);
});

test('each worker is told what any of them has', async () => {
  const desk = createLockDesk();
  const [one, two] = [connectLocks(desk, 1), connectLocks(desk, 2)];
  const listed = one.withLock('links/a', () => two.withLock('links/b', () => two.listHeld('links/')));
  expect(await listed).toEqual(['links/a', 'links/b']);
  await expect.poll(() => one.listHeld('links/')).toEqual([]);
});

test('the locks of a worker that died are free, and its requests are forgotten', async () => {
  const desk = createLockDesk();
  const [one, two, three] = [connectLocks(desk, 1), connectLocks(desk, 2), connectLocks(desk, 3)];
  const held = Promise.withResolvers<string>();
  void one.withLock('links', () => held.promise);
  await expect.poll(() => two.withFreeLock('links', async () => true)).toBeUndefined();
  const waiting = three.withLock('links', async () => 'three');
  void two.withLock('links', () => new Promise(() => {}));
  desk.release(2);
  desk.release(1);
  expect(await waiting).toBe('three');
});

test('content that one worker is pushing is not deleted by another', async () => {
  const desk = createLockDesk();
  const records = createMemoryStore();
  const directory = await mkdtemp(join(tmpdir(), 'veneer-hosted-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  const content = await createDiskStore({ directory });
  const open = (number: number) =>
    createHostedStore({
      content,
      records: { ...records, locks: connectLocks(desk, number) },
      memory: createMemory(),
      now: () => new Date(),
    });
  const [one, two] = [open(1), open(2)];
  const digest = await content.put(Buffer.from('pushed'));
  await one.withLease(digest, async () => {
    await two.deleteUnlinked(digest);
    expect(await content.find(digest)).toBeDefined();
  });
  await two.deleteUnlinked(digest);
  expect(await content.find(digest)).toBeUndefined();
});

test('a wait for a lock has an end, after which the lock is not had by accident', async () => {
  const desk = createLockDesk();
  const [one, two] = [connectLocks(desk, 1), connectLocks(desk, 2, 20)];
  const held = Promise.withResolvers<void>();
  const holding = one.withLock('links', () => held.promise);
  await expect.poll(() => two.withFreeLock('links', async () => true)).toBeUndefined();
  await expect(two.withLock('links', async () => {})).rejects.toThrow(RecordStoreBusy);
  held.resolve();
  await holding;
  expect(await one.withLock('links', async () => 'again')).toBe('again');
});

test('a request for a free lock that is answered too late is withdrawn', async () => {
  const desk = createLockDesk();
  const late: LockRequest[] = [];
  const { locks } = createWorkerLocks(request => void late.push(request), 1);
  expect(await locks.withFreeLock('links', async () => true)).toBeUndefined();
  for (const request of late) desk.take(1, request, () => {});
  expect(await connectLocks(desk, 2).withFreeLock('links', async () => true)).toBe(true);
});

test('a worker that cannot read its metrics answers without them', async () => {
  const sent: FromWorker[] = [];
  let receive: (message: ToWorker) => void = () => {};
  const { peers } = createWorker(
    { number: 1, count: 2 },
    {
      send: message => void sent.push(message),
      onMessage(listener) {
        receive = listener;
      },
    },
  );
  peers.onMetricsAsked(async () => {
    throw new Error('a collector failed');
  });
  receive({ topic: 'question', from: 2, id: 7 });
  await expect.poll(() => sent).toEqual([{ topic: 'answer', to: 2, id: 7, metrics: [] }]);
});

const used = (text: string, usedAt = 1) => ({
  digest: digestOf(Buffer.from(text)),
  size: 10,
  usedAt,
  recordedAt: usedAt,
});

function createShared(count: number) {
  const listeners: ((news: CacheNews) => void)[] = [];
  const told: CacheNews[] = [];
  const usages = Array.from({ length: count }, (_, at) =>
    createSharedUsage(createUsage(), {
      worker: at + 1,
      tell(news) {
        told.push(news);
        for (const [other, listener] of listeners.entries()) if (other !== at) listener(news);
      },
      onNews: listener => void listeners.push(listener),
    }),
  );
  return { usages, told };
}

test('what a worker stores and removes is counted by all', async () => {
  const { usages } = createShared(2);
  const [one, two] = usages;
  one?.note(used('a'));
  two?.note(used('b', 2));
  await Promise.resolve();
  expect(usages.map(({ bytes, count }) => [bytes, count])).toEqual([
    [20, 2],
    [20, 2],
  ]);
  two?.forget(used('a').digest);
  await Promise.resolve();
  expect(usages.map(({ bytes }) => bytes)).toEqual([10, 10]);
});

test('a use is told when it is recorded, and not each time', async () => {
  const { usages, told } = createShared(2);
  usages[0]?.note(used('a'));
  await Promise.resolve();
  const before = told.length;
  usages[0]?.note({ ...used('a'), usedAt: 2 });
  await Promise.resolve();
  expect(told.length).toBe(before);
  usages[0]?.note(used('a', 60_000));
  await Promise.resolve();
  expect(usages[1]?.find(used('a').digest)?.usedAt).toBe(60_000);
});

test('what is reserved by one worker counts for the others, until it or its next process gives it back', async () => {
  const { usages } = createShared(2);
  usages[0]?.setArriving(5_000_000);
  await Promise.resolve();
  expect(usages.map(usage => usage.arrivingElsewhere())).toEqual([0, 5_000_000]);
  usages[0]?.setArriving(0);
  await Promise.resolve();
  expect(usages[1]?.arrivingElsewhere()).toBe(0);
});

test('metrics of several processes become those of one service', async () => {
  const create = (requests: number) => {
    const meter = createMeter();
    meter.counter({ name: 'requests_total', help: 'Requests.' })({}, requests);
    meter.readGauge({ name: 'cache_bytes', help: 'Of all.', aggregator: 'max' }, () => [
      { labels: {}, value: requests },
    ]);
    meter.readHistogram({ name: 'delay', help: 'Seconds.', bounds: [1] }, () => [
      { labels: {}, counts: [requests, 1], sum: 2 },
    ]);
    return meter;
  };
  const [one, two] = [create(3), create(5)];
  const text = await one.format([await two.exportAll()]);
  expect(text).toContain('requests_total 8\n');
  expect(text).toContain('cache_bytes 5\n');
  expect(text).toContain('delay_bucket{le="1"} 8\n');
  expect(text).toContain('delay_bucket{le="+Inf"} 10\n');
  expect(text).toContain('delay_sum 4\n');
});

test('content that one worker holds is not removed by another', async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'veneer-shared-'));
  onTestFinished(() => rm(dataDir, { recursive: true }));
  const desk = createLockDesk();
  let nowMs = Date.now();
  const records = createMemoryStore({ now: () => new Date(nowMs) });
  const open = async (number: number): Promise<LeasedStore> => {
    const openContent = createOpenContent({
      ...{ config: { dataDir, state: {} }, log: pino({ level: 'silent' }), memory: createMemory(), remote: undefined },
      records: { ...records, locks: connectLocks(desk, number) },
      worker: { number },
    });
    const stored = await openContent('contexts', { onDamaged() {} });
    const store = await createLeasedStore({ stored, directory: stored.directory, now: () => new Date(nowMs) });
    onTestFinished(() => store.close());
    return store;
  };
  const [one, two] = [await open(1), await open(2)];
  const [held, left] = ['held', 'left'].map(text => Buffer.from(text));
  for (const bytes of [held, left]) await one.ingest(ReadableStream.from([bytes ?? Buffer.of()]), undefined).done;
  nowMs += 2 * 3_600_000;
  expect(await one.touch(digestOf(held ?? Buffer.of()))).toBe(true);
  await two.sweep(async () => false);
  expect(await one.find(digestOf(held ?? Buffer.of()))).toBeDefined();
  expect(await one.find(digestOf(left ?? Buffer.of()))).toBeUndefined();
});
