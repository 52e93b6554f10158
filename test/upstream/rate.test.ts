// A rate, against its definition: whenever requests come, no stretch of the time has more turns than are allowed, and none waits in vain.
import { array, assert, asyncProperty, integer } from 'fast-check';
import { expect, test } from 'vitest';
import { createRateLimiter, RateExceeded } from '../../src/upstream/limits/rate.ts';

const gaps = array(integer({ min: 0, max: 20_000 }), { maxLength: 60 });

test('no stretch of the time has more turns than the rate allows, and turns are in order', async () => {
  await assert(
    asyncProperty(
      gaps,
      integer({ min: 1, max: 5 }),
      integer({ min: 1000, max: 60_000 }),
      async (waits, count, perMs) => {
        let now = 0;
        const turns: number[] = [];
        let waited = 0;
        const clock = {
          now: () => new Date(now),
          async wait(ms: number) {
            waited = ms;
          },
        };
        const waitForRate = createRateLimiter({ name: 'lab', rate: { count, perMs }, clock });
        for (const gap of waits) {
          now += gap;
          waited = 0;
          try {
            await waitForRate();
            turns.push(now + waited);
          } catch (error) {
            expect(error).toBeInstanceOf(RateExceeded);
            // Refused only where the last turns that count fill the time until then.
            expect((turns.at(-count) ?? -perMs) + perMs).toBeGreaterThan(now + 30_000);
          }
        }
        expect(turns).toEqual(turns.toSorted((a, b) => a - b));
        for (const [at, turn] of turns.entries()) {
          const before = turns[at - count];
          if (before !== undefined) expect(turn - before).toBeGreaterThanOrEqual(perMs);
        }
      },
    ),
  );
});

/** A clock that a test moves on; who waits is called in time, or leaves. */
function createMovedClock() {
  let now = 0;
  const waiting = new Set<{ readonly at: number; readonly done: () => void }>();
  return {
    now: () => new Date(now),
    wait(ms: number, signal?: AbortSignal) {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const wait = { at: now + ms, done: resolve };
      waiting.add(wait);
      signal?.addEventListener('abort', () => reject(signal.reason));
      return promise.finally(() => waiting.delete(wait));
    },
    async moveTo(time: number) {
      now = time;
      for (const { at, done } of waiting) if (at <= now) done();
      await new Promise(setImmediate);
    },
    waiting,
  };
}

test('who leaves gives its turn back, and nothing waits any more', async () => {
  const clock = createMovedClock();
  const waitForRate = createRateLimiter({ name: 'lab', rate: { count: 1, perMs: 10_000 }, clock });
  await waitForRate();
  const left = [new AbortController(), new AbortController(), new AbortController()];
  const gone = left.map(({ signal }) => expect(waitForRate(signal)).rejects.toThrow('gone'));
  for (const caller of left) caller.abort(new Error('gone'));
  await Promise.all(gone);
  await new Promise(setImmediate);
  expect(clock.waiting.size).toBe(0);
  const told: string[] = [];
  const lone = waitForRate().then(() => told.push('lone'));
  await clock.moveTo(9_999);
  expect(told).toEqual([]);
  await clock.moveTo(10_000);
  expect(told).toEqual(['lone']);
  await lone;
});

test('those behind who leaves move up, in order', async () => {
  const clock = createMovedClock();
  const waitForRate = createRateLimiter({ name: 'lab', rate: { count: 1, perMs: 10_000 }, clock });
  await waitForRate();
  const first = new AbortController();
  const gone = expect(waitForRate(first.signal)).rejects.toThrow('gone');
  const told: number[] = [];
  const all = [1, 2].map(each => waitForRate().then(() => told.push(each)));
  await expect(waitForRate()).rejects.toMatchObject({ retryAfterSeconds: 40 });
  first.abort(new Error('gone'));
  await gone;
  await clock.moveTo(10_000);
  expect(told).toEqual([1]);
  await clock.moveTo(20_000);
  expect(told).toEqual([1, 2]);
  await Promise.all(all);
});

test('a turn that comes while others wait comes after them, however they leave', async () => {
  await assert(
    asyncProperty(array(integer({ min: 0, max: 9 }), { maxLength: 20 }), async leaving => {
      const clock = createMovedClock();
      const waitForRate = createRateLimiter({ name: 'lab', rate: { count: 2, perMs: 1000 }, clock });
      const told: number[] = [];
      const callers = Array.from({ length: 12 }, (_, i) => {
        const controller = new AbortController();
        const done = waitForRate(controller.signal).then(
          () => void told.push(i),
          () => {},
        );
        return { controller, done };
      });
      await new Promise(setImmediate);
      for (const i of leaving) callers[i + 2]?.controller.abort(new Error('gone'));
      const stay = callers.map((_, i) => i).filter(i => !leaving.includes(i - 2));
      for (let time = 1000; told.length < stay.length && time <= 20_000; time += 1000) {
        const before = told.length;
        await clock.moveTo(time);
        expect(told.length - before).toBe(Math.min(2, stay.length - before));
      }
      expect(told).toEqual(stay);
      await Promise.all(callers.map(({ done }) => done));
    }),
    { numRuns: 30 },
  );
});
