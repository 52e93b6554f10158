// Counts of several processes over the same records: together they never exceed a limit, all of it can be used, and most of what is cheap
// needs no round trip.
import fc from 'fast-check';
import { beforeEach, expect, test } from 'vitest';
import type { Caller, RateState } from '../../src/access/access.ts';
import { createPasswords } from '../../src/access/passwords.ts';
import { createCallerRateLimiter } from '../../src/access/rate-limiter.ts';
import { shareCounts } from '../../src/access/shared-counts.ts';
import { type RecordStore, RecordStoreAway } from '../../src/state/store.ts';
import { createMemoryStore } from '../support/memory-records.ts';

const HOUR = 3_600_000;
const ada: Caller = { kind: 'user', name: 'ada' };

let time: number;
let records: RecordStore;
let trips: number;

beforeEach(() => {
  time = Date.UTC(2030, 0, 1);
  trips = 0;
  records = createRecords();
});

const now = () => new Date(time);

function createRecords(): RecordStore {
  const store = createMemoryStore({ now });
  return {
    ...store,
    locks: { ...store.locks, areShared: true },
    get(collection, key) {
      trips += 1;
      return store.get(collection, key);
    },
    write(changes, options) {
      trips += 1;
      return store.write(changes, options);
    },
  };
}

function createCounts(max: number, options: { readonly isExact?: boolean; readonly records?: RecordStore } = {}) {
  const counting = { records: options.records ?? records, now };
  const shared = shareCounts({ counting, name: 'pulls', max, windowMs: HOUR, ...options });
  if (!shared) throw new Error('the records are not shared');
  return shared;
}

test('are granted by all processes together exactly as often as the limit says', async () => {
  const processes = [createCounts(40), createCounts(40), createCounts(40)];
  const taken = await Promise.all(
    Array.from({ length: 50 }, () => processes.map(counts => counts.take('ada', 1))).flat(),
  );
  expect(taken.filter(count => count?.isGranted)).toHaveLength(40);
  expect(await processes[0]?.take('bob', 1)).toEqual({ isGranted: true, used: 1, msLeft: HOUR });
});

test('of a busy account need few round trips, and none once nothing is left', async () => {
  const counts = createCounts(1000);
  for (let at = 0; at < 1000; at += 1) expect((await counts.take('ada', 1))?.isGranted).toBe(true);
  expect(trips).toBeLessThan(150);
  await counts.take('ada', 1);
  const before = trips;
  for (let at = 0; at < 100; at += 1) expect((await counts.take('ada', 1))?.isGranted).toBe(false);
  expect(trips).toBe(before);
});

test('what one process has in advance, and does not need, the others have a moment later', async () => {
  const [first, second] = [createCounts(100), createCounts(100)];
  for (let at = 0; at < 5; at += 1) await first.take('ada', 1);
  let granted = 5;
  await expect
    .poll(async () => {
      while ((await second.take('ada', 1))?.isGranted) granted += 1;
      return granted;
    })
    .toBe(100);
});

test('begin anew when the window ends, whatever was held', async () => {
  const [first, second] = [createCounts(20), createCounts(20)];
  for (let at = 0; at < 4; at += 1) await first.take('ada', 1);
  for (let at = 0; at < 2; at += 1) {
    time += HOUR;
    expect(await second.take('ada', 20)).toEqual({ isGranted: true, used: 20, msLeft: HOUR });
    expect(await first.take('ada', 1)).toEqual({ isGranted: false, used: 20, msLeft: HOUR });
  }
});

test('are given back for all', async () => {
  const [first, second] = [createCounts(2, { isExact: true }), createCounts(2, { isExact: true })];
  await first.take('ada', 2);
  expect(await second.look('ada')).toMatchObject({ isGranted: true });
  expect(await second.take('ada', 1)).toMatchObject({ isGranted: false, used: 2 });
  expect(await second.look('ada')).toMatchObject({ isGranted: false });
  await first.giveBack('ada', 1);
  await expect.poll(() => second.look('ada')).toMatchObject({ isGranted: true });
  expect(await second.take('ada', 1)).toMatchObject({ isGranted: true, used: 2 });
});

test('are unknown while the records are away, and go on afterwards', async () => {
  let isAway = true;
  const broken: RecordStore = {
    ...records,
    write: (...change) => (isAway ? Promise.reject(new RecordStoreAway('away')) : records.write(...change)),
  };
  const counts = createCounts(3, { records: broken });
  expect(await counts.take('ada', 1)).toBeUndefined();
  const before = trips;
  expect(await counts.take('ada', 1)).toBeUndefined();
  expect(trips).toBe(before);
  isAway = false;
  await expect.poll(() => counts.take('ada', 1)).toMatchObject({ isGranted: true });
  expect(await createCounts(3, { records: { ...records, version: () => undefined } }).take('ada', 1)).toBeUndefined();
});

test('never exceed the limit, whatever the order of the round trips', async () => {
  const step = fc.record({
    at: fc.nat({ max: 2 }),
    units: fc.integer({ min: 1, max: 4 }),
    isGivenBack: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 60 }),
      fc.array(step, { maxLength: 60, size: 'max' }),
      fc.scheduler(),
      async (max, steps, scheduler) => {
        const store = createRecords();
        const pass = () => scheduler.schedule(Promise.resolve());
        const slow: RecordStore = {
          ...store,
          get: async (...record) => pass().then(() => store.get(...record)),
          write: async (...change) => pass().then(() => store.write(...change)),
        };
        const processes = Array.from({ length: 3 }, () => createCounts(max, { records: slow }));
        let used = 0;
        const all = steps.map(async ({ at, units, isGivenBack }) => {
          await pass();
          const counts = processes[at];
          if (!(await counts?.take('ada', units))?.isGranted) return;
          used += units;
          expect(used).toBeLessThanOrEqual(max);
          if (!isGivenBack) return;
          used -= units;
          await counts?.giveBack('ada', units);
        });
        await scheduler.waitFor(Promise.all(all));
      },
    ),
    { numRuns: 200 },
  );
});

test('rates are of all processes, and each says what is left', async () => {
  const states: RateState[] = [];
  const counted = { what: 'builds', units: 'platforms', key: 'builds.rate' };
  const rates = { anonymous: undefined, known: { count: 3, perMs: HOUR } };
  const limiters = [0, 1].map(() => createCallerRateLimiter(rates, counted, { records, now }));
  const requester = { caller: ada, address: undefined, onCounted: (state: RateState) => void states.push(state) };
  await limiters[0]?.consume(requester, 2);
  await limiters[1]?.consume(requester, 1);
  await expect(limiters[1]?.consume(requester, 1)).rejects.toMatchObject({
    status: 429,
    retryAfterSeconds: 3600,
    message: 'too many builds: 1 more would be 4 of 3 platforms in 3600 seconds (builds.rate.known in veneer.yaml)',
  });
  expect(states.map(({ left, resetSeconds }) => [left, resetSeconds])).toEqual([
    [1, 3600],
    [0, 3600],
    [0, 3600],
  ]);
  await limiters[1]?.refund(requester, 1);
  await limiters[1]?.consume(requester, 1);
});

test('rates are of each process while the records are away', async () => {
  const away = { ...records, version: () => undefined };
  const rates = { anonymous: undefined, known: { count: 1, perMs: HOUR } };
  const counted = { what: 'builds', units: 'platforms', key: 'builds.rate' };
  for (let at = 0; at < 2; at += 1) {
    const limiter = createCallerRateLimiter(rates, counted, { records: away, now });
    await limiter.consume({ caller: ada, address: undefined }, 1);
    await expect(limiter.consume({ caller: ada, address: undefined }, 1)).rejects.toMatchObject({ status: 429 });
  }
});

test('wrong passwords at one process are refused at the others, and right ones do not count', async () => {
  const bcrypt = { compare: async (password: string) => password === 'right' };
  const users = { read: async () => new Map([['ci', '$2b$04$not.compared.here']]) };
  const processes = [0, 1].map(() => createPasswords({ users, bcrypt, now, records }));
  const check = (at: number, password: string) =>
    processes[at]?.check({ kind: 'password', username: 'ci', password }, '10.0.0.1');
  expect([await check(0, 'right'), await check(1, 'right')]).toEqual([true, true]);
  for (let at = 0; at < 10; at += 1) expect(await check(at % 2, `wrong ${at}`)).toBe(false);
  for (const at of [0, 1]) await expect(check(at, 'wrong')).rejects.toMatchObject({ code: 'TOOMANYREQUESTS' });
  expect(await check(1, 'right')).toBe(true);
  time += 60_000;
  expect(await check(0, 'wrong')).toBe(false);
});
