// Uploads of processes that share a bucket and the records, and no disk: each request of an upload may come to another process.
import { randomBytes } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { createBucketStore } from '../../../src/cache/read-through/bucket-store.ts';
import { createGarbageCollector, type GarbageCollector } from '../../../src/hosted/gc/collector.ts';
import { createQuota } from '../../../src/hosted/quota.ts';
import { createHostedRepositories, type HostedRepositories } from '../../../src/hosted/repositories.ts';
import { createSharedUploads } from '../../../src/hosted/repository/shared-uploads.ts';
import { createHostedStore, type HostedOptions } from '../../../src/hosted/store.ts';
import { createMemory } from '../../../src/memory.ts';
import { digestOf } from '../../../src/oci/digest.ts';
import { createSharedLocks } from '../../../src/state/locks.ts';
import type { RecordStore } from '../../../src/state/store.ts';
import { type BudgetPlace, openPlace } from '../../cache/eviction/fixture.ts';
import { createMemoryBucket, type MemoryBucket } from '../../support/memory-bucket.ts';
import { createMemoryStore } from '../../support/memory-records.ts';
import { bytes, chunk, createBody, readBlob } from '../fixture.ts';

interface Replica {
  readonly hosted: HostedRepositories;
  readonly collector: GarbageCollector;
  readonly place: BudgetPlace;
}

const DAY = 24 * 3600 * 1000;
const NAME = 'local/app';
const content = randomBytes(300_000);
const digest = digestOf(content);
let bucket: MemoryBucket;
let records: RecordStore;
let offset: number;
let a: Replica;
let b: Replica;

beforeEach(async () => {
  offset = 0;
  bucket = createMemoryBucket({ now });
  records = createMemoryStore();
  [a, b] = [await open(), await open()];
});

afterEach(async () => {
  for (const { place } of [a, b]) await place.close();
});

const now = () => new Date(Date.now() + offset);

const withLocks = (): RecordStore => ({ ...records, locks: createSharedLocks({ store: records, pollMs: 3 }) });

async function open(options: Partial<HostedOptions> = {}): Promise<Replica> {
  const place = await openPlace();
  const { directory } = place;
  const own = withLocks();
  const content = createBucketStore({
    ...{ bucket, folder: 'hosted', cache: place.store, memory: createMemory() },
    onDamaged() {},
    onFailed() {},
  });
  const store = createHostedStore({ content, records: own, memory: createMemory(), now, options });
  const { commit, parts } = content;
  const files = await createSharedUploads({ directory, commit, parts, records: store.records, now });
  const collector = createGarbageCollector(store, { inventory: content.inventory, graceMs: 0 });
  return { hosted: createHostedRepositories(store, files), collector, place };
}

const FOREIGN = ['hosted/uploads/backup/part', 'hosted/uploads/README'];

const partNames = () => [...bucket.objects.keys()].filter(key => key.startsWith('hosted/uploads/'));
const received = async () =>
  (await Promise.all([a, b].map(({ place }) => readdir(join(place.directory, 'drafts'))))).flat();
const start = async () => (await a.hosted.uploads.start(NAME)).id;
const expectGone = (id: string) =>
  expect(a.hosted.uploads.get(NAME, id)).rejects.toMatchObject({ code: 'BLOB_UPLOAD_UNKNOWN' });

async function expectPushed({ hosted }: Replica): Promise<void> {
  expect(content.equals(await readBlob(hosted, NAME, digest))).toBe(true);
  await expect.poll(partNames).toEqual([]);
  expect(await received()).toEqual([]);
}

test('is begun at one, gets its bytes at both, and ends at either', async () => {
  const id = await start();
  expect(await b.hosted.uploads.append(NAME, id, chunk(content.subarray(0, 1000), 0))).toEqual({ id, size: 1000 });
  expect(await a.hosted.uploads.get(NAME, id)).toEqual({ id, size: 1000 });
  expect(await a.hosted.uploads.append(NAME, id, chunk(content.subarray(1000, 2000), 1000))).toEqual({
    id,
    size: 2000,
  });
  const again = b.hosted.uploads.append(NAME, id, chunk(content.subarray(1000, 2000), 1000));
  await expect(again).rejects.toMatchObject({ code: 'RANGE_INVALID', detail: { size: 2000 } });
  expect(await b.hosted.uploads.append(NAME, id, chunk(content.subarray(2000, 9000)))).toEqual({ id, size: 9000 });
  await a.hosted.uploads.finish(NAME, id, digest, chunk(content.subarray(9000)));
  await expectPushed(b);
  await expectGone(id);
});

test('of one part becomes content in the bucket, and nothing is sent again', async () => {
  const id = await start();
  await b.hosted.uploads.append(NAME, id, chunk(content));
  const sent = bucket.put;
  bucket.put = () => Promise.reject(new Error('sent again'));
  await a.hosted.uploads.finish(NAME, id, digest);
  bucket.put = sent;
  await expectPushed(a);
});

test('that comes in one request is never a part', async () => {
  const id = await start();
  const put = bucket.put;
  const keys: string[] = [];
  bucket.put = (key, ...rest) => {
    keys.push(key);
    return put(key, ...rest);
  };
  await b.hosted.uploads.finish(NAME, id, digest, chunk(content));
  expect(keys).toEqual([`hosted/blobs/sha256/${digest.slice(7, 9)}/${digest.slice(7)}`]);
  await expectPushed(a);
});

test('has other bytes than its digest says: it ends, and leaves nothing', async () => {
  const id = await start();
  await a.hosted.uploads.append(NAME, id, chunk(content.subarray(0, 1000)));
  await b.hosted.uploads.append(NAME, id, chunk(content.subarray(0, 1000)));
  await expect(a.hosted.uploads.finish(NAME, id, digest)).rejects.toMatchObject({ code: 'DIGEST_INVALID' });
  expect([...bucket.objects.keys()]).toEqual([]);
  expect(await received()).toEqual([]);
  await expectGone(id);
});

test('of another algorithm, and of nothing, end as well', async () => {
  const id = await start();
  await b.hosted.uploads.append(NAME, id, chunk(content));
  const other = digestOf(content, 'sha512');
  await a.hosted.uploads.finish(NAME, id, other);
  expect(content.equals(await readBlob(b.hosted, NAME, other))).toBe(true);
  const nothing = await start();
  await b.hosted.uploads.finish(NAME, nothing, digestOf(bytes('')));
  expect(await a.hosted.blobs.head(NAME, digestOf(bytes('')))).toEqual({ size: 0 });
});

test('keeps what came before a client was cut off, for whoever is asked next', async () => {
  const id = await start();
  const body = createBody();
  const cut = a.hosted.uploads.append(NAME, id, { body: body.stream });
  body.send(content.subarray(0, 5000));
  // A stream that fails drops what has not been read of it.
  await expect.poll(() => body.stream.locked).toBe(true);
  await expect.poll(async () => (await received()).length).toBe(1);
  await new Promise(setImmediate);
  body.fail(new Error('the client is gone'));
  await expect(cut).rejects.toMatchObject({ code: 'BLOB_UPLOAD_INVALID' });
  const { size } = await b.hosted.uploads.get(NAME, id);
  await b.hosted.uploads.finish(NAME, id, digest, chunk(content.subarray(size), size));
  await expectPushed(b);
});

describe('while the bucket is away', () => {
  test('a chunk is refused as one to send again, and again it is taken', async () => {
    const id = await start();
    await a.hosted.uploads.append(NAME, id, chunk(content.subarray(0, 1000)));
    bucket.isAway = true;
    const refused = b.hosted.uploads.append(NAME, id, chunk(content.subarray(1000, 2000), 1000));
    await expect(refused).rejects.toMatchObject({ code: 'UNAVAILABLE', status: 503 });
    bucket.isAway = false;
    expect(await a.hosted.uploads.get(NAME, id)).toEqual({ id, size: 1000 });
    await b.hosted.uploads.append(NAME, id, chunk(content.subarray(1000), 1000));
    await a.hosted.uploads.finish(NAME, id, digest);
    await expectPushed(b);
  });

  test.each([
    ['without a part', 0],
    ['with one', 1000],
  ])('an end %s is refused, and the same request ends it later', async (_, at) => {
    const id = await start();
    if (at > 0) await a.hosted.uploads.append(NAME, id, chunk(content.subarray(0, at)));
    bucket.isAway = true;
    const refused = b.hosted.uploads.finish(NAME, id, digest, chunk(content.subarray(at)));
    await expect(refused).rejects.toMatchObject({ code: 'UNAVAILABLE', status: 503 });
    bucket.isAway = false;
    await a.hosted.uploads.finish(NAME, id, digest, chunk(content.subarray(at)));
    await expectPushed(b);
  });
});

test('that another process has taken up meanwhile is not changed by one that was overtaken', async () => {
  const id = await start();
  const put = bucket.put;
  // While one sends its part, its lease ends, and another goes on.
  bucket.put = async (...args) => {
    bucket.put = put;
    await put(...args);
    for (const key of await records.list('lease', { limit: 10 })) await records.delete('lease', key);
    await b.hosted.uploads.append(NAME, id, chunk(content.subarray(0, 500)));
  };
  const overtaken = a.hosted.uploads.append(NAME, id, chunk(content.subarray(0, 1000)));
  await expect(overtaken).rejects.toMatchObject({ code: 'UNAVAILABLE', status: 503 });
  expect(await a.hosted.uploads.get(NAME, id)).toEqual({ id, size: 500 });
  await a.hosted.uploads.finish(NAME, id, digest, chunk(content.subarray(500)));
  await expect.poll(() => a.hosted.blobs.head(NAME, digest)).toEqual({ size: content.byteLength });
  // The part that nobody lists goes as those of a crash do.
  offset += 2 * DAY;
  await b.hosted.expireUploads();
  await expectPushed(b);
});

test.each([
  ['sent', 'put'],
  ['copied', 'copy'],
] as const)('is not collected by another between the bytes, %s, and the link', async (_, name) => {
  const id = await start();
  if (name === 'copy') await a.hosted.uploads.append(NAME, id, chunk(content));
  const store: (...args: never[]) => Promise<unknown> = bucket[name];
  let collected = 0;
  Object.assign(bucket, {
    async [name](...args: never[]) {
      const answer = await store(...args);
      const { orphans } = await b.collector.collect({ force: true });
      collected += 1;
      expect(orphans).toEqual({ blobs: 0, bytes: 0 });
      return answer;
    },
  });
  await a.hosted.uploads.finish(NAME, id, digest, name === 'put' ? chunk(content) : undefined);
  expect(collected).toBe(1);
  Object.assign(bucket, { [name]: store });
  await expectPushed(b);
  // What is linked by nobody goes, though the first of them remembers it.
  await a.hosted.blobs.delete(NAME, digest);
  expect(await bucket.find(`hosted/blobs/sha256/${digest.slice(7, 9)}/${digest.slice(7)}`)).toBeUndefined();
  await b.hosted.uploads.finish(NAME, await start(), digest, chunk(content));
  await expectPushed(a);
});

test.each([
  ['a NUL', '\0'],
  ['a long text', 'x'.repeat(4000)],
])('is not looked for by what is no id, and nothing is locked: %s', async (_, id) => {
  const write = vi.spyOn(records, 'write');
  const { hosted, place } = await open();
  await expect(hosted.uploads.get(NAME, id)).rejects.toMatchObject({ code: 'BLOB_UPLOAD_UNKNOWN' });
  expect(write.mock.calls).toEqual([]);
  await place.close();
});

test('counts those that another has ended no longer', async () => {
  const [first, second] = [await open({ maxUploads: 2 }), await open({ maxUploads: 2 })];
  const ids = [await first.hosted.uploads.start(NAME), await first.hosted.uploads.start(NAME)];
  await expect(first.hosted.uploads.start(NAME)).rejects.toMatchObject({ code: 'TOOMANYREQUESTS' });
  for (const { id } of ids) await second.hosted.uploads.cancel(NAME, id);
  await expect.poll(() => first.hosted.uploads.start(NAME).then(() => 'begun', String)).toBe('begun');
  for (const { place } of [first, second]) await place.close();
});

test.each([
  ['finished', (b: Replica, id: string) => b.hosted.uploads.finish(NAME, id, digest)],
  ['cancelled', (b: Replica, id: string) => b.hosted.uploads.cancel(NAME, id)],
])('counts for a quota no longer once another has %s it', async (_, end) => {
  const records = withLocks();
  const limits = [{ repositories: ['local/**'], maxBytes: content.byteLength }];
  const first = await open({ quota: await createQuota({ records, limits }) });
  const second = await open({ quota: await createQuota({ records, limits }) });
  const { id } = await first.hosted.uploads.start(NAME);
  await first.hosted.uploads.append(NAME, id, chunk(content));
  const other = (await first.hosted.uploads.start(NAME)).id;
  await expect(first.hosted.uploads.append(NAME, other, chunk(content))).rejects.toMatchObject({ code: 'DENIED' });
  await end(second, id);
  await second.hosted.blobs.delete(NAME, digest).catch(() => {});
  expect(await first.hosted.uploads.append(NAME, other, chunk(content))).toMatchObject({ size: content.byteLength });
  for (const { place } of [first, second]) await place.close();
});

test('times out, with its parts and those that a crash has left, and not before', async () => {
  const [idle, fresh] = [await start(), await start()];
  await a.hosted.uploads.append(NAME, idle, chunk(content.subarray(0, 1000)));
  const orphan = 'hosted/uploads/00000000-0000-4000-8000-000000000000/0000000000000-sha256-00';
  const [part = ''] = partNames();
  await bucket.copy(part, orphan);
  // Whatever else somebody has put there stays, and stops nothing.
  for (const foreign of FOREIGN) await bucket.copy(part, foreign);
  await b.hosted.expireUploads();
  expect(partNames()).toHaveLength(2 + FOREIGN.length);
  offset += DAY - 1000;
  await b.hosted.uploads.append(NAME, fresh, chunk(content.subarray(0, 1000)));
  offset += 2000;
  await b.hosted.expireUploads();
  expect(partNames().map(name => name.split('/')[2])).toEqual(['backup', 'README', fresh]);
  await expectGone(idle);
  await a.hosted.uploads.cancel(NAME, fresh);
  expect(partNames()).toEqual(FOREIGN);
  await expectGone(fresh);
});
