// Content of a bucket that several processes share: what one of them needs no other removes, and what one finds damaged is so for all.
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createHosting } from '../../src/app/hosting.ts';
import { createOpenContent, createScrubbing } from '../../src/app/stored-content.ts';
import { loadConfig } from '../../src/config/config.ts';
import type { StoredContent } from '../../src/content/inventory.ts';
import { createLeasedStore, type LeasedStore } from '../../src/content/leased-store.ts';
import type { Scrubber } from '../../src/content/scrubber.ts';
import type { ContentStore } from '../../src/content/store.ts';
import { createMemory } from '../../src/memory.ts';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { createSharedLocks } from '../../src/state/locks.ts';
import type { RecordStore } from '../../src/state/store.ts';
import { type BudgetPlace, openPlace } from '../cache/eviction/fixture.ts';
import { createMemoryBucket, type MemoryBucket } from '../support/memory-bucket.ts';
import { createMemoryStore } from '../support/memory-records.ts';

const HOUR = 3_600_000;
const log = pino({ level: 'silent' });

interface Process {
  readonly leased: LeasedStore;
  readonly hosted: ContentStore;
  readonly stored: readonly StoredContent[];
  readonly damages: readonly Digest[];
  readonly records: RecordStore;
  readonly place: BudgetPlace;
}

let bucket: MemoryBucket;
let records: RecordStore;
let offset: number;
let a: Process;
let b: Process;

beforeEach(async () => {
  offset = 0;
  bucket = createMemoryBucket({ now });
  records = createMemoryStore({ now });
  [a, b] = [await open(), await open()];
});

afterEach(async () => {
  for (const { place } of [a, b]) await place.close();
});

const now = () => new Date(Date.now() + offset);

async function open(): Promise<Process> {
  const place = await openPlace();
  const { directory, store: cache } = place;
  const own = { ...records, locks: createSharedLocks({ store: records, pollMs: 3 }) };
  const stored: StoredContent[] = [];
  const damages: Digest[] = [];
  const openContent = createOpenContent({
    ...{ config: { dataDir: directory, state: {} }, log, memory: createMemory(), records: own },
    remote: { bucket, cache, noteVerified() {} },
    onOpened: one => stored.push(one),
  });
  const onDamaged = ({ digest }: { readonly digest: Digest }) => damages.push(digest);
  const { content: hosted } = await openContent('hosted', { onDamaged });
  const rules = await openContent('rules', { onDamaged });
  const leased = await createLeasedStore({ stored: rules, directory, now });
  return { leased, hosted, stored, damages, records: own, place };
}

const keep = async ({ leased }: Process, text: string) => (await leased.ingest(new Blob([text]).stream()).done).digest;
const sweep = ({ leased }: Process, ...needed: readonly Digest[]) =>
  leased.sweep(async digest => needed.includes(digest));
const keyOf = (digest: Digest, of = 'rules') => `${of}/blobs/sha256/${digest.slice(7, 9)}/${digest.slice(7)}`;
const isThere = (digest: Digest) => bucket.objects.has(keyOf(digest));

describe('content that is leased', () => {
  test('stays while any process needs it, and goes when none has for an hour', async () => {
    const digest = await keep(a, 'needed by a');
    for (let hours = 0; hours < 3; hours += 0.4) {
      await sweep(a, digest);
      await sweep(b);
      expect(isThere(digest)).toBe(true);
      offset += 0.4 * HOUR;
    }
    offset += 2 * HOUR;
    await sweep(b);
    expect(isThere(digest)).toBe(false);
  });

  test('stays when another process has just found it, or brought it once more', async () => {
    const [found, brought] = [await keep(a, 'found'), await keep(a, 'brought')];
    offset += 2 * HOUR;
    expect(await b.leased.touch(found)).toBe(true);
    expect(await keep(b, 'brought')).toBe(brought);
    await sweep(a);
    expect([isThere(found), isThere(brought)]).toEqual([true, true]);
  });

  test('is not found where another process has removed it meanwhile', async () => {
    const digest = await keep(a, 'removed');
    expect(await b.leased.touch(digest)).toBe(true);
    offset += 2 * HOUR;
    await sweep(a);
    expect(isThere(digest)).toBe(false);
    expect(await b.leased.touch(digest)).toBe(false);
    expect(await keep(b, 'removed')).toBe(digest);
    expect(isThere(digest)).toBe(true);
  });

  test('that comes while another process removes the same comes about', async () => {
    const digest = await keep(a, 'both');
    offset += 2 * HOUR;
    const remove = bucket.delete;
    let again: Promise<Digest> | undefined;
    bucket.delete = async key => {
      again = keep(b, 'both');
      // It is at the bucket by now, if nothing keeps it from there.
      for (let turn = 0; turn < 100; turn += 1) await setImmediate();
      await remove(key);
    };
    await sweep(a);
    expect(await again).toBe(digest);
    expect(isThere(digest)).toBe(true);
  });
});

test('a worker that starts removes nothing that another one of its replica is receiving', async () => {
  const { directory, store: cache } = a.place;
  const file = join(directory, 'veneer.yaml');
  const database = 'state: { postgres: { url: postgres://db.example.com/veneer, replicas: true } }';
  await writeFile(file, `${database}\ncontent: { s3: { bucket: images } }\ndataDir: ${directory}\nworkers: 2\n`);
  const config = loadConfig({ file, env: {}, flags: {} });
  const start = (number: number) =>
    createHosting({
      ...{ config, records: a.records, memory: createMemory(), worker: { number } },
      ...{ clock: { now, deleteBy: now }, reasonToKeep: () => undefined, onChange() {}, reportDamage() {} },
      openContent: createOpenContent({
        ...{ config, log, memory: createMemory(), records: a.records, worker: { number } },
        remote: { bucket, cache, noteVerified() {} },
      }),
    });
  const { hosted } = await start(1);
  const { id } = await hosted.uploads.start('local/app');
  const halves = [Buffer.alloc(300_000, '1'), Buffer.alloc(300_000, '2')];
  const { promise: mayEnd, resolve: end } = Promise.withResolvers<void>();
  const body = async function* () {
    yield halves[0] ?? Buffer.of();
    await mayEnd;
    yield halves[1] ?? Buffer.of();
  };
  const receiving = hosted.uploads.append('local/app', id, { body: body() });
  const listReceived = () => readdir(join(directory, 'hosted'), { recursive: true });
  await expect.poll(async () => (await listReceived()).some(name => name.endsWith(id))).toBe(true);
  const other = await start(2);
  end();
  expect(await receiving).toEqual({ id, size: 600_000 });
  const whole = digestOf(Buffer.concat(halves));
  await other.hosted.uploads.finish('local/app', id, whole);
  expect(bucket.objects.has(keyOf(whole, 'hosted'))).toBe(true);
});

describe('damaged content', () => {
  const bytes = Buffer.from('as it was pushed');
  const digest = digestOf(bytes);
  const verify = ({ stored }: Process) => stored.find(({ of }) => of === 'hosted')?.verify(digest);

  beforeEach(async () => {
    await a.hosted.put(bytes);
    bucket.damage(keyOf(digest, 'hosted'));
    // What is cached hides it, until it is evicted.
    await a.place.store.delete(digest);
  });

  test('is missing for all as soon as one has found it, and is replaced by whoever gets it again', async () => {
    expect(await verify(a)).toEqual({ size: bytes.byteLength, isIntact: false });
    expect([a.damages, b.damages]).toEqual([[digest], []]);
    expect([await a.hosted.find(digest), await b.hosted.find(digest)]).toEqual([undefined, undefined]);
    expect(await b.hosted.open(digest)).toBeUndefined();
    await b.hosted.put(bytes);
    expect(digestOf(bucket.objects.get(keyOf(digest, 'hosted'))?.bytes ?? Buffer.of())).toBe(digest);
    expect(await a.hosted.find(digest)).toEqual({ size: bytes.byteLength });
    expect(await records.list('content.damaged', { limit: 10 })).toEqual([]);
  });

  test('is found by the scrubber of one process at a time, another of which goes on where it ended', async () => {
    const scrubbers: Scrubber[] = [];
    const start = ({ records: own, stored }: Process) => {
      const config = { scrub: { everyMs: 256 * 4, bytesPerSecond: 1e9, isOfBucket: true } };
      const started = createScrubbing({ config, log, records: own, stores: stored, areInBucket: true });
      if (started) scrubbers.push(started);
    };
    start(a);
    start(b);
    await expect.poll(() => a.damages.length + b.damages.length).toBeGreaterThan(0);
    const all = [...a.damages, ...b.damages];
    for (const scrubber of scrubbers) await scrubber.close();
    expect(new Set(all)).toEqual(new Set([digest]));
    const cursor = JSON.parse(Buffer.from((await records.get('scrub', 'bucket')) ?? []).toString());
    expect(cursor).toMatchObject({ part: expect.any(Number), ranMs: expect.any(Number) });
  });
});
