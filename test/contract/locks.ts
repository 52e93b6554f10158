// What locks that several processes share keep to, over any record store: each sentence of src/state/locks.ts as a test.
import fc from 'fast-check';
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest';
import { createSharedLocks } from '../../src/state/locks.ts';
import { type Lock, type Locks, RecordConflict, type RecordStore, RecordStoreBusy } from '../../src/state/store.ts';

const TTL_MS = 15_000;

/** The stores are of the same records, each as another process has it. */
export function locksContract(
  createStores: (options: { readonly now: () => Date }) => Promise<readonly [RecordStore, RecordStore]>,
): void {
  let stores: readonly [RecordStore, RecordStore];
  let time = 0;

  beforeEach(async () => {
    time = Date.UTC(2030, 0, 1);
    stores = await createStores({ now: () => new Date(time) });
  });

  afterEach(async () => {
    for (const store of stores) await store.close();
  });

  const locksOf = (at: 0 | 1, options: Partial<Parameters<typeof createSharedLocks>[0]> = {}): Locks =>
    createSharedLocks({ store: stores[at], ttlMs: TTL_MS, pollMs: 10, ...options });

  /** Work that has begun under a lock, and ends when it is told to. */
  async function hold(locks: Locks, key = 'a') {
    const begun = Promise.withResolvers<Lock>();
    const end = Promise.withResolvers<void>();
    const ended = locks.withLock(key, async lock => {
      begun.resolve(lock);
      await end.promise;
    });
    ended.catch(begun.reject);
    onTestFinished(() => end.resolve());
    const release = () => {
      end.resolve();
      return ended;
    };
    return { lock: await begun.promise, release };
  }

  const write = (store: RecordStore, text: string, { fence }: Lock) =>
    store.write([{ kind: 'put', collection: 'counters', key: 'a', value: Buffer.from(text) }], { expected: fence });

  test('keeps others out until the work ends, also when it fails', async () => {
    const [own, other] = [locksOf(0), locksOf(1)];
    const { release } = await hold(own);
    expect([own.isLocked('a'), other.isLocked('a')]).toEqual([true, false]);
    expect(await other.withFreeLock('a', async () => 'runs')).toBeUndefined();
    expect(await own.withFreeLock('a', async () => 'runs')).toBeUndefined();
    expect(await other.withLock('b', async () => 'runs')).toBe('runs');
    await release();
    expect(own.isLocked('a')).toBe(false);
    expect(await other.withFreeLock('a', async () => 'runs')).toBe('runs');
    await expect(own.withLock('a', () => Promise.reject(new Error('no luck')))).rejects.toThrow('no luck');
    expect(await other.withFreeLock('a', async () => 'runs')).toBe('runs');
  });

  test('lists what any process has, and nothing that has ended', async () => {
    const [own, other] = [locksOf(0), locksOf(1)];
    const held = await Promise.all([hold(own, 'list/b'), hold(other, 'list/a'), hold(other, 'other')]);
    for (const locks of [own, other]) expect(await locks.listHeld('list/')).toEqual(['list/a', 'list/b']);
    for (const { release } of held) await release();
    await expect.poll(() => own.listHeld('list/')).toEqual([]);
  });

  test('those of one process come in order, regardless of who had the key before', async () => {
    const order: string[] = [];
    const run = (locks: Locks, name: string) => locks.withLock('a', async () => void order.push(name));
    const { release } = await hold(locksOf(1));
    const own = locksOf(0);
    const waiting = ['1', '2', '3'].map(name => run(own, name));
    await release();
    await Promise.all(waiting);
    expect(order).toEqual(['1', '2', '3']);
  });

  test('gives up waiting after a time, and a process that asks again is served', async () => {
    const { release } = await hold(locksOf(0));
    const impatient = locksOf(1, { waitMs: 0 });
    await expect(impatient.withLock('a', async () => {})).rejects.toThrow(RecordStoreBusy);
    await release();
    expect(await impatient.withLock('a', async () => 'runs')).toBe('runs');
  });

  test('a holder that is silent for too long is overtaken, and whatever it writes under the lock is refused', async () => {
    const { lock } = await hold(locksOf(0));
    await write(stores[0], 'in time', lock);
    time += TTL_MS;
    await expect(write(stores[0], 'expired', lock)).rejects.toThrow(RecordConflict);
    const next = await hold(locksOf(1));
    await expect(write(stores[0], 'overtaken', lock)).rejects.toThrow(RecordConflict);
    await write(stores[1], 'next', next.lock);
    await next.release();
    await expect(write(stores[0], 'late', lock)).rejects.toThrow(RecordConflict);
    expect(Buffer.from((await stores[0].get('counters', 'a')) ?? []).toString()).toBe('next');
  });

  test('an overtaken holder that ends takes nothing from the next one', async () => {
    const late = await hold(locksOf(0));
    time += TTL_MS;
    const next = await hold(locksOf(1));
    await late.release();
    expect(await locksOf(0).withFreeLock('a', async () => 'runs')).toBeUndefined();
    await write(stores[1], 'next', next.lock);
  });

  test('work that lasts keeps its lock, under the same fence', async () => {
    let renewals = 0;
    const store: RecordStore = {
      ...stores[0],
      async write(changes, options) {
        await stores[0].write(changes, options);
        renewals += 1;
      },
    };
    const ttlMs = 300;
    const { lock } = await hold(locksOf(0, { store, ttlMs }));
    for (let passed = 0; passed < 3 * ttlMs; passed += ttlMs / 2) {
      const before = renewals;
      // One that began after the clock went on has the new time.
      await expect.poll(() => renewals).toBeGreaterThan(before + 1);
      time += ttlMs / 2;
    }
    await write(stores[0], 'still held', lock);
    expect(lock.lost.aborted).toBe(false);
    expect(await locksOf(1).withFreeLock('a', async () => 'runs')).toBeUndefined();
  });

  test('a holder is told that its lock is lost', async () => {
    const ttlMs = 300;
    const { lock } = await hold(locksOf(0, { ttlMs }));
    time += 2 * ttlMs;
    await expect.poll(() => lock.lost.aborted).toBe(true);
  });

  test('a holder that no longer reaches the records counts its lock as lost', async () => {
    let isAway = false;
    const store: RecordStore = {
      ...stores[0],
      write: (changes, options) => (isAway ? Promise.reject(new Error('away')) : stores[0].write(changes, options)),
    };
    const { lock } = await hold(locksOf(0, { store, ttlMs: 300 }));
    isAway = true;
    await expect.poll(() => lock.lost.aborted).toBe(true);
  });

  test('whatever comes between, each acknowledged change counts', async () => {
    const step = fc.record({
      at: fc.constantFrom<(0 | 1)[]>(0, 1),
      key: fc.constantFrom('a', 'b'),
      turns: fc.nat({ max: 3 }),
      // Everybody is silent for so long that leases expire while the work continues.
      isStalled: fc.boolean(),
    });
    const countOf = async (store: RecordStore, key: string) =>
      Number(Buffer.from((await store.get('counters', key)) ?? []).toString());
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 2, maxLength: 10 }), async steps => {
        for (const key of ['a', 'b']) await stores[0].delete('counters', key);
        const locks = [locksOf(0), locksOf(1)] as const;
        const acknowledged = { a: 0, b: 0 };
        const run = async ({ at, key, turns, isStalled }: (typeof steps)[number]) =>
          locks[at].withLock(key, async ({ fence }) => {
            const store = stores[at];
            const next = (await countOf(store, key)) + 1;
            for (let turn = 0; turn < turns; turn += 1) await store.list('counters', { limit: 1 });
            if (isStalled) time += TTL_MS;
            await store.write([{ kind: 'put', collection: 'counters', key, value: Buffer.from(`${next}`) }], {
              expected: fence,
            });
            acknowledged[key === 'a' ? 'a' : 'b'] += 1;
          });
        const results = await Promise.allSettled(steps.map(run));
        for (const result of results)
          if (result.status === 'rejected') expect(result.reason).toBeInstanceOf(RecordConflict);
        expect({ a: await countOf(stores[0], 'a'), b: await countOf(stores[1], 'b') }).toEqual(acknowledged);
      }),
      { numRuns: 20 },
    );
  });
}
