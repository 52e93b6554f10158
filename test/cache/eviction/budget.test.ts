// The budget of a content store: what goes, what stays, and what a reader sees of it.
import { readdirSync, statSync } from 'node:fs';
import { stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import type { DiskStore } from '../../../src/content/disk.ts';
import { createDiskStore } from '../../../src/content/disk.ts';
import { StorageFailure } from '../../../src/content/store.ts';
import { type Digest, digestHex, digestOf } from '../../../src/oci/digest.ts';
import { contentStoreContract } from '../../contract/content-store.ts';
import { type BudgetPlace, contentOf, openPlace, type PlaceOptions } from './fixture.ts';

let place: BudgetPlace;
const BUDGET = { highBytes: 1000, lowBytes: 500 };

afterEach(() => place?.close());

async function open(options: PlaceOptions = {}): Promise<void> {
  place = await openPlace({ budget: BUDGET, ...options });
}

async function keep(...numbers: readonly number[]): Promise<readonly Digest[]> {
  const kept: Digest[] = [];
  for (const number of numbers) kept.push(await place.store.put(contentOf(number).bytes));
  return kept;
}

const digestsOf = (...numbers: readonly number[]) => numbers.map(number => contentOf(number).digest).sort();

describe('the store that counts', () => {
  contentStoreContract(async () => {
    let current = await openPlace();
    let isOpen = false;
    return {
      async open() {
        if (isOpen) current = await current.restart();
        isOpen = true;
        return current.store;
      },
      remove: () => current.close(),
    };
  });
});

test('nothing goes up to the high mark, and above it the longest unused goes until the low mark', async () => {
  await open();
  await keep(0, 1, 2, 3, 4, 5, 6, 7, 8, 9);
  await place.settle();
  expect(place.usage.count).toBe(10);
  await buffer((await place.store.open(contentOf(0).digest)) ?? new ReadableStream());
  await place.store.read(contentOf(2).digest, 2 ** 30);
  await keep(10);
  await place.settle();
  expect(await place.inventory()).toEqual(digestsOf(0, 2, 8, 9, 10));
  expect(place.runs).toEqual([{ reason: 'budget', count: 6, bytes: 600, leftBytes: 400, isShort: false }]);
  expect([...place.unlinked].sort()).toEqual(digestsOf(1, 3, 4, 5, 6, 7));
});

test('above the number that there may be the longest unused goes until nine tenths are left, and pinned content is looked at once', async () => {
  const pinned = new Set<Digest>();
  await open({ budget: { maxCount: 10 }, isPinned: digest => pinned.has(digest) });
  await keep(0, 1, 2, 3, 4, 5, 6, 7, 8, 9);
  await place.settle();
  expect(place.runs).toEqual([]);
  await keep(10);
  await place.settle();
  expect(await place.inventory()).toEqual(digestsOf(2, 3, 4, 5, 6, 7, 8, 9, 10));
  expect(place.runs).toEqual([{ reason: 'number', count: 2, bytes: 200, leftBytes: 900, isShort: false }]);
  for (const digest of [...(await place.inventory()), ...digestsOf(11, 12)]) pinned.add(digest);
  await keep(11, 12);
  await place.settle();
  expect(place.runs.slice(1)).toMatchObject([{ reason: 'number', count: 0, isShort: true }]);
});

test('many writers stay within the high mark and what comes while room is made', async () => {
  await open({ budget: { highBytes: 1_000_000, lowBytes: 500_000 } });
  let peak = 0;
  const writers = Array.from({ length: 8 }, async (_, writer) => {
    for (let i = 0; i < 60; i += 1) {
      await place.store.put(contentOf(writer * 1000 + i, 10_000).bytes);
      peak = Math.max(peak, place.usage.bytes);
    }
  });
  await Promise.all(writers);
  await place.settle();
  expect(place.usage.bytes).toBeLessThanOrEqual(1_000_000);
  expect(peak).toBeLessThanOrEqual(1_000_000 + 8 * 10_000 * 4);
});

test('what is pinned stays, and a cache full of it says so once', async () => {
  const pinned = new Set(digestsOf(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10));
  await open({ isPinned: digest => pinned.has(digest) });
  await keep(0, 1, 2, 3, 4, 5, 6, 7, 8, 9);
  for (const number of [10, 11, 12]) await expect(keep(number)).rejects.toThrow(StorageFailure);
  await place.settle();
  expect(place.runs.filter(({ isShort }) => isShort)).toHaveLength(1);
  expect(await place.inventory()).toEqual(digestsOf(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
});

describe('age', () => {
  let now = 0;
  const HOUR = 3_600_000;

  test('takes what nobody used for so long, and leaves the rest', async () => {
    now = 100 * HOUR;
    await open({ budget: { maxAgeMs: 2 * HOUR }, now: () => new Date(now) });
    await keep(0, 1);
    now += 1.5 * HOUR;
    await place.store.find(contentOf(1).digest);
    now += HOUR;
    await place.settle();
    expect(await place.inventory()).toEqual(digestsOf(1));
    expect(place.runs).toMatchObject([{ reason: 'age', count: 1 }]);
  });

  test('takes what was used before the clock went back, once it has been unused for so long again', async () => {
    now = 100 * HOUR;
    await open({ budget: { maxAgeMs: 2 * HOUR }, now: () => new Date(now) });
    await keep(0);
    now = 10 * HOUR;
    await keep(1);
    await place.settle();
    expect(await place.inventory()).toEqual(digestsOf(0, 1));
    now += 3 * HOUR;
    await place.settle();
    expect(await place.inventory()).toEqual([]);
  });
});

describe('a restart', () => {
  test('knows what was used last', async () => {
    let now = Date.now() - 100 * 3_600_000;
    await open({ now: () => new Date(now) });
    for (const number of [0, 1, 2, 3]) {
      await keep(number);
      now += 120_000;
    }
    await place.store.read(contentOf(0).digest, 2 ** 30);
    const path = pathOf(place, contentOf(0).digest);
    await expect.poll(async () => Math.abs((await stat(path)).mtimeMs - now)).toBeLessThan(1000);
    place = await place.restart();
    expect([...place.usage.oldest()].map(({ digest }) => digest)).toEqual(
      [1, 2, 3, 0].map(number => contentOf(number).digest),
    );
  });

  test('counts what lies on the disk, and brings it within the budget', async () => {
    place = await openPlace({ budget: { highBytes: 10_000, lowBytes: 500 } });
    const { directory } = place;
    await keep(...Array.from({ length: 20 }, (_, i) => i));
    for (let i = 0; i < 20; i += 1) await utimes(pathOf(place, contentOf(i).digest), 1000 + i, 1000 + i);
    await place.housekeeping.close();
    const again = await createDiskStore({ directory });
    await again.put(Buffer.alloc(9000));
    await again.close();
    place = await place.restart();
    await place.settle();
    expect(place.runs).toMatchObject([{ reason: 'budget' }]);
    expect(place.usage.bytes).toBeLessThanOrEqual(500);
  });

  test('writes no more than one time of use a minute for the same content', async () => {
    const now = Date.now();
    await open({ now: () => new Date(now) });
    await keep(0);
    const path = pathOf(place, contentOf(0).digest);
    await expect.poll(async () => Math.abs((await stat(path)).mtimeMs - now)).toBeLessThan(2);
    await utimes(path, 5, 5);
    for (let i = 0; i < 10; i += 1) await place.store.read(contentOf(0).digest, 2 ** 30);
    await place.store.close();
    expect((await stat(path)).mtimeMs).toBe(5000);
  });
});

describe('who reads', () => {
  test('what goes meanwhile reads it to its end, fifty at a time', async () => {
    await open({ budget: { highBytes: 6_000_000, lowBytes: 1_000_000 } });
    const large = Buffer.alloc(4_000_000, 'abc');
    const digest = await place.store.put(large);
    const streams = await Promise.all(Array.from({ length: 50 }, () => place.store.open(digest)));
    const readers = streams.map(stream => (stream ?? new ReadableStream()).getReader());
    for (const reader of readers) await reader.read();
    await place.store.put(Buffer.alloc(900_000, 'x'));
    await place.store.put(Buffer.alloc(2_000_000, 'y'));
    await place.settle();
    expect(await place.store.find(digest)).toBeUndefined();
    const rest = await Promise.all(readers.map(readRest));
    expect(
      new Set(rest.map(bytes => digestOf(Buffer.concat([large.subarray(0, large.length - bytes.length), bytes])))),
    ).toEqual(new Set([digest]));
  });

  test('what arrives again while it is to go keeps it', async () => {
    await open();
    const { bytes, digest } = contentOf(0);
    await place.store.put(bytes);
    const gate = Promise.withResolvers<void>();
    const body = new ReadableStream<Uint8Array>({
      async pull(controller) {
        await gate.promise;
        controller.enqueue(bytes);
        controller.close();
      },
    });
    const ingestion = place.store.ingest(body, { digest, size: bytes.length });
    expect(await Array.fromAsync(place.evict({ toBytes: 0 }))).toEqual([{ count: 0, bytes: 0 }]);
    gate.resolve();
    await ingestion.done;
    expect(await place.inventory()).toEqual([digest]);
    expect(place.usage.bytes).toBe(100);
  });
});

describe('a full disk', () => {
  const full = (content: DiskStore): DiskStore => ({
    ...content,
    ingest(body, expected) {
      if ((expected?.size ?? 0) < 300) return content.ingest(body, expected);
      const cause = Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
      const done = Promise.reject(new StorageFailure('the content store cannot store content', { cause }));
      done.catch(() => {});
      return { begun: done, done, received: 0, open: () => new ReadableStream() };
    },
  });

  test('has the longest unused go, as much as the blob needs', async () => {
    await open({ budget: {}, wrap: full });
    await keep(0, 1, 2, 3, 4, 5);
    const large = contentOf(9, 300);
    await expect(
      place.store.ingest(ReadableStream.from([large.bytes]), { ...large, size: 300 }).done,
    ).rejects.toThrow();
    await expect
      .poll(() => place.runs)
      .toEqual([{ reason: 'full disk', count: 3, bytes: 300, leftBytes: 300, isShort: false }]);
    expect(await place.inventory()).toEqual(digestsOf(3, 4, 5));
  });

  test('has nothing go for what would not fit even then', async () => {
    await open({ budget: {}, wrap: full });
    await keep(0, 1);
    const large = contentOf(9, 300);
    await expect(
      place.store.ingest(ReadableStream.from([large.bytes]), { ...large, size: 300 }).done,
    ).rejects.toThrow();
    await place.settle();
    expect(await place.inventory()).toEqual(digestsOf(0, 1));
  });
});

test('what somebody else removed is not counted any more once it is looked for', async () => {
  await open();
  const { digest } = contentOf(0);
  await keep(0);
  await (await createDiskStore({ directory: place.directory })).delete(digest);
  expect(await place.store.find(digest)).toBeUndefined();
  expect(place.usage.bytes).toBe(0);
});

function pathOf({ directory }: BudgetPlace, digest: Digest): string {
  const hex = digestHex(digest);
  return join(directory, 'blobs', 'sha256', hex.slice(0, 2), hex);
}

async function readRest(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return Buffer.concat(chunks);
    chunks.push(value.slice());
  }
}

describe('while content grows', () => {
  const MIB = 1024 * 1024;
  const BIG = { highBytes: 40 * MIB, lowBytes: 32 * MIB };

  /** A body without an end, or with one, a chunk whenever it is asked for. */
  function bodyOf(chunks = Number.POSITIVE_INFINITY) {
    const state = { sent: 0, isCancelled: false };
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        if (state.sent >= chunks * MIB) return controller.close();
        state.sent += MIB;
        controller.enqueue(Buffer.alloc(MIB, state.sent / MIB));
      },
      cancel() {
        state.isCancelled = true;
      },
    });
    return { state, body };
  }

  const some = contentOf(1).digest;

  /** At one moment: files that are gone by the end of a walk would count beside those that have grown meanwhile. */
  function usedBytes(): number {
    const names = readdirSync(place.directory, { recursive: true, withFileTypes: true });
    const files = names.filter(name => name.isFile()).map(({ parentPath, name }) => join(parentPath, name));
    return files.reduce((sum, file) => sum + (statSync(file, { throwIfNoEntry: false })?.size ?? 0), 0);
  }

  test('what may never end takes half of the budget at most, together, and leaves the rest of what is kept', async () => {
    await open({ budget: BIG });
    for (let i = 0; i < 8; i += 1) await place.store.put(Buffer.alloc(4 * MIB, i));
    const bodies = Array.from({ length: 4 }, () => bodyOf());
    const ends = bodies.map(({ body }, i) => place.store.ingest(body, { digest: contentOf(i).digest }).done);
    let most = 0;
    const watch = setInterval(() => {
      most = Math.max(most, usedBytes());
    }, 5);
    for (const end of ends) await expect(end).rejects.toMatchObject({ cause: { name: 'OverBudget' } });
    clearInterval(watch);
    expect(bodies.every(({ state }) => state.isCancelled)).toBe(true);
    // Files that are just going are seen, too.
    expect(most).toBeLessThanOrEqual(BIG.highBytes + 8 * MIB);
    expect(place.usage.count).toBeGreaterThanOrEqual(3);
  });

  test('its next try does without the store from the start', async () => {
    await open({ budget: BIG });
    await expect(place.store.ingest(bodyOf().body, { digest: some }).done).rejects.toThrow(StorageFailure);
    const { state, body } = bodyOf();
    await expect(place.store.ingest(body, { digest: some }).done).rejects.toThrow(StorageFailure);
    expect(state.sent).toBeLessThanOrEqual(2 * MIB);
  });

  test('what says that it is larger than the budget is not begun', async () => {
    await open({ budget: BIG });
    const { state, body } = bodyOf();
    const { done } = place.store.ingest(body, { digest: some, size: BIG.highBytes });
    await expect(done).rejects.toMatchObject({ cause: { name: 'OverBudget' } });
    expect(state.sent).toBeLessThanOrEqual(2 * MIB);
    expect(place.runs).toEqual([]);
  });

  test('older content goes meanwhile, and manifests have place beside it', async () => {
    await open({ budget: BIG });
    const kept = await keepAll([0, 1, 2, 3, 4, 5, 6, 7]);
    const bytes = Buffer.concat(await Array.fromAsync(bodyOf(30).body));
    const body = ReadableStream.from(Array.from({ length: 30 }, (_, i) => bytes.subarray(i * MIB, (i + 1) * MIB)));
    const ingestion = place.store.ingest(body, { digest: digestOf(bytes), size: bytes.byteLength });
    await keepAll([8]);
    await ingestion.done;
    await place.settle();
    expect(await place.store.find(digestOf(bytes))).toBeDefined();
    expect(await place.store.find(kept[0] ?? some)).toBeUndefined();
    expect(usedBytes()).toBeLessThanOrEqual(BIG.highBytes);
  });

  async function keepAll(numbers: readonly number[]): Promise<readonly Digest[]> {
    return Promise.all(numbers.map(number => place.store.put(Buffer.alloc(4 * MIB, number))));
  }

  test.each([
    ['of unknown size, when its last reader has left', undefined, 1],
    ['of unknown size that nobody began to read', undefined, 0],
    ['of known size, of which too little has come', 30 * MIB, 1],
  ])('a transfer %s, ends', async (_, size, readers) => {
    await open({ budget: BIG });
    let drip: NodeJS.Timeout | undefined;
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        drip = setInterval(() => controller.enqueue(Buffer.alloc(1000)), 10);
      },
      cancel: () => clearInterval(drip),
    });
    const ingestion = place.store.ingest(body, { digest: some, size }, { isForReaders: true });
    for (let i = 0; i < readers; i += 1) {
      const reader = ingestion.open().getReader();
      await reader.read();
      await reader.cancel();
    }
    await expect(ingestion.done).rejects.toThrow('no reader is left');
  });

  test('a transfer that is worth finishing ends a while later, where it hangs', async () => {
    await open({ budget: BIG });
    const body = new ReadableStream<Uint8Array>({ start: controller => controller.enqueue(Buffer.alloc(1000)) });
    const ingestion = place.store.ingest(body, { digest: some, size: 1500 }, { isForReaders: true });
    const reader = ingestion.open().getReader();
    await ingestion.begun;
    const leftAt = performance.now();
    await reader.cancel();
    await expect(ingestion.done).rejects.toThrow('no reader is left');
    expect(performance.now() - leftAt).toBeGreaterThan(300);
  });

  test('a transfer continues as long as somebody reads, and to its end where that is near', async () => {
    await open({ budget: BIG, unread: { graceMs: 100, finishMs: 600_000 } });
    const bytes = Buffer.alloc(20_000, 'x');
    let source: ReadableStreamDefaultController<Uint8Array> | undefined;
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        source = controller;
      },
    });
    const ingestion = place.store.ingest(body, { digest: digestOf(bytes), size: 20_000 }, { isForReaders: true });
    const reader = ingestion.open().getReader();
    await delay(300);
    source?.enqueue(bytes.subarray(0, 1000));
    source?.enqueue(bytes.subarray(1000, 15_000));
    await reader.read();
    await expect.poll(() => ingestion.received).toBe(15_000);
    await reader.cancel();
    await delay(300);
    source?.enqueue(bytes.subarray(15_000));
    source?.close();
    expect(await ingestion.done).toMatchObject({ size: 20_000 });
  });
});
