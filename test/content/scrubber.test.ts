// The scrubber reads all content of all stores in its time, continues after a restart where it was, and stops at once.
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createDiskStore, type DiskStore } from '../../src/content/disk.ts';
import { createInventory, type StoredContent } from '../../src/content/inventory.ts';
import { type Scrubber, type ScrubCursor, type ScrubTotals, startScrubber } from '../../src/content/scrubber.ts';
import { type Digest, digestHex } from '../../src/oci/digest.ts';

let directory: string;
let stores: DiskStore[];
let kept: StoredContent[];
let read: string[];
let place: ScrubCursor | undefined;
let rounds: ScrubTotals[];
let failures: unknown[];
let scrubber: Scrubber | undefined;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'veneer-scrub-'));
  [stores, kept, read, rounds, failures, place] = [[], [], [], [], [], undefined];
  for (const of of ['hosted', 'cache'] as const) {
    const store = await createDiskStore({ directory: join(directory, of) });
    stores.push(store);
    const verify: DiskStore['verify'] = async (digest, options) => {
      const verified = await store.verify(digest, options);
      read.push(`${of} ${digest}`);
      return verified;
    };
    kept.push({ of, ...createInventory(join(directory, of)), verify });
  }
});

afterEach(async () => {
  await scrubber?.close();
  for (const store of stores) await store.close();
  await rm(directory, { recursive: true });
});

function start(
  everyMs: number,
  bytesPerSecond = 1024 ** 3,
  exclusively?: (work: () => Promise<void>) => Promise<boolean>,
): void {
  scrubber = startScrubber({
    ...{ stores: kept, everyMs, bytesPerSecond, exclusively },
    cursors: {
      find: async () => place,
      async save(next) {
        place = next;
      },
    },
    onRound: round => rounds.push(round),
    onFailed: error => failures.push(error),
  });
}

async function fill(count: number): Promise<readonly string[]> {
  const all: string[] = [];
  for (const [at, { of }] of kept.entries()) {
    for (let i = 0; i < count; i += 1) all.push(`${of} ${await stores[at]?.put(randomBytes(100 + i))}`);
  }
  return all.toSorted();
}

const fileOf = (of: string, digest: Digest) =>
  join(directory, of, 'blobs', 'sha256', digestHex(digest).slice(0, 2), digestHex(digest));

test('reads all content of all stores once in each round, and finds what is damaged', async () => {
  const all = await fill(200);
  const digest = await stores[0]?.put(randomBytes(300_000));
  if (!digest) throw new Error('nothing is kept');
  const raw = await readFile(fileOf('hosted', digest));
  raw[200_000] = (raw[200_000] ?? 0) ^ 1;
  await writeFile(fileOf('hosted', digest), raw);
  start(1);
  await expect.poll(() => rounds.length).toBeGreaterThanOrEqual(2);
  await scrubber?.close();
  const bytes = 300_000 + 2 * (200 * 100 + (199 * 200) / 2);
  expect(rounds.slice(0, 2)).toMatchObject([
    { count: 401, bytes, damaged: 1 },
    { count: 400, bytes: bytes - 300_000, damaged: 0 },
  ]);
  expect(read.slice(0, 401).toSorted()).toEqual([...all, `hosted ${digest}`].toSorted());
  expect(read.slice(401, 801).toSorted()).toEqual(all);
  expect(await stores[0]?.find(digest)).toBeUndefined();
  expect(failures).toEqual([]);
});

test('continues after a restart where it was, in the middle of a part too', async () => {
  const all = await fill(300);
  for (let round = 0; rounds.length === 0; round += 1) {
    const before = read.length;
    start(1);
    await expect.poll(() => read.length - before > 50 || rounds.length > 0, { interval: 1 }).toBe(true);
    await scrubber?.close();
    expect(round).toBeLessThan(all.length);
  }
  expect(rounds[0]).toMatchObject({ count: 600, damaged: 0 });
  expect(read.slice(0, 600).toSorted()).toEqual(all);
});

test('stops at once in the middle of a file, and reads no faster than it may', async () => {
  await stores[0]?.put(randomBytes(3_000_000));
  // This file alone would take five minutes, which is longer than a test may.
  start(1, 10_000);
  await new Promise(resolve => setTimeout(resolve, 500));
  expect(read).toEqual([]);
  await scrubber?.close();
  expect(failures).toEqual([]);
  expect(rounds).toEqual([]);
});

test('continues past what cannot be read', async () => {
  const all = await fill(50);
  const broken = kept.map(each => ({
    ...each,
    verify: async (digest: Digest, options?: Parameters<DiskStore['verify']>[1]) => {
      if (`${each.of} ${digest}` === all[0]) throw new Error('no leave to read');
      return each.verify(digest, options);
    },
  }));
  kept = broken;
  start(1);
  await expect.poll(() => rounds.length).toBeGreaterThan(0);
  expect(rounds[0]).toMatchObject({ count: 99, damaged: 0 });
  expect(failures[0]).toMatchObject({ message: 'no leave to read' });
});

test('continues when the records that processes share were away', async () => {
  await fill(1);
  let asked = 0;
  start(1, undefined, async work => {
    asked += 1;
    if (asked <= 3) throw new Error(`away ${asked}`);
    await work();
    return true;
  });
  await expect.poll(() => rounds.length).toBeGreaterThan(0);
  expect(rounds[0]).toMatchObject({ count: 2, damaged: 0 });
  expect(failures).toEqual([1, 2, 3].map(at => expect.objectContaining({ message: `away ${at}` })));
});
