// Two processes that share records and content: what comes between two steps of one of them, and what does not have to wait.
import { beforeEach, expect, test } from 'vitest';
import { createLockDesk } from '../../src/app/primary.ts';
import { createWorkerLocks } from '../../src/app/worker.ts';
import { createGarbageCollector } from '../../src/hosted/gc/collector.ts';
import { createQuota } from '../../src/hosted/quota.ts';
import { createHostedRepositories } from '../../src/hosted/repositories.ts';
import { createHostedStore, type HostedOptions } from '../../src/hosted/store.ts';
import { createMemory } from '../../src/memory.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { createSharedLocks, LEASES } from '../../src/state/locks.ts';
import type { Change, Locks, RecordStore } from '../../src/state/store.ts';
import { createMemoryStore } from '../support/memory-records.ts';
import { bytes, pushBlob, pushSmall, readBlob } from './fixture.ts';
import { expectUsageCounted } from './gc/history-checks.ts';
import { createMemoryPlace, type MemoryPlace } from './memory-place.ts';

const memory = createMemory();
const DAY = 24 * 3600 * 1000;
const BLOB = bytes('a blob');

let time: number;
let place: MemoryPlace;
let records: RecordStore;

beforeEach(() => {
  time = Date.UTC(2030, 0, 1);
  place = createMemoryPlace(now);
  records = createMemoryStore({ now });
});

const now = () => new Date(time);

/** `around`: calls of its own that are replaced, and its locks, by default leases. */
function open(around: Partial<RecordStore> = {}, options: Partial<HostedOptions> = {}) {
  const reached = { ...records, ...around };
  const { locks = createSharedLocks({ store: reached, pollMs: 1 }) } = around;
  const own = { ...reached, locks };
  const store = createHostedStore({ memory, content: place.content, records: own, now, options });
  return {
    hosted: createHostedRepositories(store, place.uploadFiles),
    collector: createGarbageCollector(store, { inventory: place.files, graceMs: DAY }),
  };
}

/** The locks of workers, as their primary process grants them. */
function createLocksOfWorkers(): () => Locks {
  const desk = createLockDesk();
  let workers = 0;
  return () => {
    const worker = ++workers;
    const { locks, settle } = createWorkerLocks(request =>
      setImmediate(() => desk.take(worker, request, answer => setImmediate(() => settle(answer)))),
    );
    return locks;
  };
}

const isOf = (collection: string, kind: Change['kind']) => (change: Change) =>
  change.collection === collection && change.kind === kind;

test('a blob that is pushed again while a collection is about to remove it stays', async () => {
  const other = open();
  await pushBlob(other.hosted, 'local/a', BLOB);
  time += 2 * DAY;
  let pushes = 0;
  const { collector } = open({
    async write(changes, options) {
      if (changes.some(isOf('hosted.blob', 'delete')) && pushes++ === 0) await pushBlob(other.hosted, 'local/a', BLOB);
      return records.write(changes, options);
    },
  });
  expect(await collector.collect()).toMatchObject({ removed: { blobs: 0 } });
  expect([pushes, await readBlob(other.hosted, 'local/a', digestOf(BLOB))]).toEqual([1, BLOB]);
});

test.each([
  ['replicas', () => () => ({})],
  [
    'workers',
    () => {
      const open = createLocksOfWorkers();
      return () => ({ locks: open() });
    },
  ],
])('content that one of several %s has stored, and is about to link, is not deleted by another', async (_, create) => {
  const process = create();
  const linking = Promise.withResolvers<void>();
  const mayLink = Promise.withResolvers<void>();
  const pusher = open({
    ...process(),
    async write(changes, options) {
      if (changes.some(isOf('hosted.blob', 'put'))) {
        linking.resolve();
        await mayLink.promise;
      }
      return records.write(changes, options);
    },
  });
  const { hosted } = open(process());
  await pushBlob(hosted, 'local/a', BLOB);
  const pushed = pushBlob(pusher.hosted, 'local/b', BLOB);
  await linking.promise;
  await hosted.blobs.delete('local/a', digestOf(BLOB));
  mayLink.resolve();
  await pushed;
  expect(await readBlob(hosted, 'local/b', digestOf(BLOB))).toEqual(BLOB);
});

test('content that is linked elsewhere while its deletion looks whether it is needed stays', async () => {
  const linking = Promise.withResolvers<void>();
  const mayLink = Promise.withResolvers<void>();
  let isDeleting = false;
  const pusher = open({
    async write(changes, options) {
      if (isDeleting && changes.some(isOf('hosted.blob', 'put'))) {
        linking.resolve();
        await mayLink.promise;
      }
      return records.write(changes, options);
    },
  });
  await pushBlob(pusher.hosted, 'local/a', BLOB);
  let pushed: Promise<unknown> | undefined;
  const { hosted } = open({
    async write(changes, options) {
      const deletes = changes.some(change => isOf(LEASES, 'put')(change) && change.key.endsWith('!deletion'));
      if (deletes && !isDeleting) {
        isDeleting = true;
        pushed = pushBlob(pusher.hosted, 'local/b', BLOB);
        await linking.promise;
      }
      return records.write(changes, options);
    },
    async list(...range) {
      const keys = await records.list(...range);
      if (pushed) {
        mayLink.resolve();
        await pushed;
      }
      return keys;
    },
  });
  await hosted.blobs.delete('local/a', digestOf(BLOB));
  await pushed;
  expect(await readBlob(hosted, 'local/b', digestOf(BLOB))).toEqual(BLOB);
});

test('a mount does not link what its source has just lost', async () => {
  const other = open();
  await pushBlob(other.hosted, 'local/a', BLOB);
  let isLost = false;
  const { hosted } = open({
    async write(changes, options) {
      if (changes.some(isOf('hosted.blob', 'put')) && !isLost) {
        isLost = true;
        await other.hosted.blobs.delete('local/a', digestOf(BLOB));
      }
      return records.write(changes, options);
    },
  });
  expect(await hosted.blobs.mount('local/b', digestOf(BLOB), { isReadable: () => true })).toBe(false);
  await expect(hosted.blobs.head('local/b', digestOf(BLOB))).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
});

test('a push does not wait for one to another repository, nor a blob for a manifest', async () => {
  const stuck = Promise.withResolvers<void>();
  const goesOn = Promise.withResolvers<void>();
  const { hosted } = open({
    async write(changes, options) {
      if (changes.some(isOf('hosted.manifest', 'put'))) {
        stuck.resolve();
        await goesOn.promise;
      }
      return records.write(changes, options);
    },
  });
  const waiting = pushSmall(hosted, 'local/a', 'a', { tags: ['1'] });
  await stuck.promise;
  const other = open();
  await pushSmall(other.hosted, 'local/b', 'b', { tags: ['1'] });
  await pushBlob(other.hosted, 'local/a', BLOB);
  goesOn.resolve();
  await waiting;
  expect((await other.hosted.tags.list('local/a', {})).tags).toEqual(['1']);
});

test('a quota of several repositories is kept to its last byte', async () => {
  const limits = [{ repositories: ['local/**'], maxBytes: 500 }];
  const processes: ReturnType<typeof open>[] = [];
  for (const _ of [0, 1]) {
    const locks = createSharedLocks({ store: records });
    processes.push(open({}, { quota: await createQuota({ records: { ...records, locks }, limits }) }));
  }
  const pushes = Array.from({ length: 12 }, (_, at) =>
    processes.map(({ hosted }, process) => pushBlob(hosted, `local/${at % 3}`, Buffer.alloc(50, `${at} ${process} `))),
  );
  const outcomes = await Promise.allSettled(pushes.flat());
  expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(10);
  for (const outcome of outcomes)
    if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'DENIED' });
  await expectUsageCounted(records);
});
