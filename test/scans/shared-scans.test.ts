// Scans of several processes that share their records: one for equal subjects, and what a dead process left is taken over.
import { pino } from 'pino';
import { expect, onTestFinished, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import type { ScannedImage } from '../../src/scans/scanner.ts';
import { createScans } from '../../src/scans/scans.ts';
import { createProcessLocks, createSharedLocks, LEASES } from '../../src/state/locks.ts';
import { type Locks, type RecordStore, RecordStoreAway } from '../../src/state/store.ts';
import { createMemoryStore } from '../support/memory-records.ts';

const SUBJECT = { key: 'image', image: 'local/app:1', repository: 'local/app', caller: 'me' };
const IMAGE: ScannedImage = {
  name: 'local/app:1',
  digest: digestOf(Buffer.from('image')),
  images: [],
  openBlob: async () => new ReadableStream(),
};
const NEVER = new AbortController().signal;

function createPlace() {
  const store = createMemoryStore();
  const scanned: PromiseWithResolvers<void>[] = [];
  const ended: string[] = [];

  async function start() {
    let isDead = false;
    const leases: { readonly key: string; readonly value: Uint8Array }[] = [];
    const write: RecordStore['write'] = async (changes, options) => {
      if (isDead) throw new RecordStoreAway('killed');
      await store.write(changes, options);
      for (const change of changes) if (change.kind === 'put' && change.collection === LEASES) leases.push(change);
    };
    const scans = await createScans({
      records: { ...store, write, locks: createSharedLocks({ store: { ...store, write }, pollMs: 2 }) },
      async scanner() {
        const work = Promise.withResolvers<void>();
        scanned.push(work);
        await work.promise;
        return { found: [], spdx: '{}' };
      },
      openImage: async () => IMAGE,
      onEnded: ({ id }) => ended.push(id),
      policy: { concurrency: 2, maxQueued: 10, freshMs: 60_000, keepMs: 60_000 },
      now: () => new Date(),
      log: pino({ enabled: false }),
      lookMs: 2,
    });
    onTestFinished(async () => {
      for (const work of scanned) work.resolve();
      await scans.close();
    });
    /** The time of its leases is up, too. */
    async function kill(): Promise<void> {
      isDead = true;
      for (const { key, value } of leases) {
        const expected = [{ collection: LEASES, key, value }];
        await store.write([{ kind: 'delete', collection: LEASES, key }], { expected }).catch(() => {});
      }
    }
    return { scans, kill };
  }

  return { start, scanned, ended };
}

test('equal subjects get one scan wherever they come, and who waits elsewhere gets its result', async () => {
  const { start, scanned, ended } = createPlace();
  const [a, b] = [await start(), await start()];
  const opened = await Promise.all([a, b, a, b].map(({ scans }) => scans.open(SUBJECT)));
  expect(new Set(opened.map(({ id }) => id)).size).toBe(1);
  const id = opened[0]?.id ?? '';
  await Promise.all([a.scans.start(id, 'token'), b.scans.start(id, 'token')]);
  await expect.poll(() => scanned.length).toBe(1);
  expect(await b.scans.find(id)).toMatchObject({ id });
  const waiting = [a, b].map(({ scans }) => scans.wait(id, NEVER));
  scanned[0]?.resolve();
  expect((await Promise.all(waiting)).map(record => record?.status)).toEqual(['succeeded', 'succeeded']);
  expect([scanned.length, ended, await b.scans.findSpdx(id)]).toEqual([1, [id], '{}']);
  expect((await b.scans.open(SUBJECT)).id).toBe(id);
});

test('the scan of a process that is killed is taken over, and the one that was overtaken changes nothing', async () => {
  const { start, scanned, ended } = createPlace();
  const [a, b] = [await start(), await start()];
  const { id } = await a.scans.open(SUBJECT);
  await a.scans.start(id, 'token');
  await expect.poll(() => scanned.length).toBe(1);
  const waiting = b.scans.wait(id, NEVER);
  await a.kill();
  await expect.poll(() => scanned.length).toBe(2);
  scanned[0]?.resolve();
  scanned[1]?.resolve();
  expect(await waiting).toMatchObject({ id, status: 'succeeded' });
  expect(ended).toEqual([id]);
});

test('the scan of a process that stops is taken over', async () => {
  const { start, scanned } = createPlace();
  const [a, b] = [await start(), await start()];
  const { id } = await a.scans.open(SUBJECT);
  await a.scans.start(id, 'token');
  await expect.poll(() => scanned.length).toBe(1);
  const closing = a.scans.close();
  scanned[0]?.reject(new Error('stopped'));
  await closing;
  await expect.poll(() => scanned.length).toBe(2);
  scanned[1]?.resolve();
  expect(await b.scans.wait(id, NEVER)).toMatchObject({ status: 'succeeded' });
});

test('a scan whose lock is lost ends here without a fault in the log: another process has it', async () => {
  const store = createMemoryStore();
  const lost = new AbortController();
  const begun = Promise.withResolvers<void>();
  const logged: string[] = [];
  const locks: Locks = {
    ...createProcessLocks(),
    areShared: true,
    withFreeLock: (_, work) => work({ fence: [], lost: lost.signal, async confirm() {} }),
  };
  const scans = await createScans({
    records: { ...store, locks },
    scanner: (_image, _log, signal) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason), { once: true });
        begun.resolve();
      }),
    openImage: async () => IMAGE,
    policy: { concurrency: 2, maxQueued: 10, freshMs: 60_000, keepMs: 60_000 },
    now: () => new Date(),
    log: pino({ level: 'warn' }, { write: line => void logged.push(line) }),
  });
  onTestFinished(() => scans.close());
  const { id } = await scans.open(SUBJECT);
  await scans.start(id, 'token');
  await begun.promise;
  lost.abort();
  await new Promise(resolve => setImmediate(resolve));
  expect(logged).toEqual([]);
  expect(await scans.find(id)).toMatchObject({ status: 'running' });
});
