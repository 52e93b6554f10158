// What clients asked for of late, and removals that do not cross them.
import { expect, test } from 'vitest';
import { createRecentAccess } from '../../src/hosted/store.ts';

const START = Date.UTC(2030, 0, 1);
const EARLIER = new Date(START - 1).toISOString();
let time = START;
const now = () => new Date(time);

test('a look is remembered with its time', async () => {
  const recentAccess = createRecentAccess(now);
  await recentAccess.touch('a');
  expect(recentAccess.isAccessedAfter('a', EARLIER)).toBe(true);
  expect(recentAccess.isAccessedAfter('a', now().toISOString())).toBe(false);
  expect(recentAccess.isAccessedAfter('b', EARLIER)).toBe(false);
  time += 5;
  await recentAccess.touch('a');
  expect(recentAccess.isAccessedAfter('a', new Date(time - 1).toISOString())).toBe(true);
});

test('what was seen is not removed', async () => {
  const recentAccess = createRecentAccess(now);
  await recentAccess.touch('a');
  expect(await recentAccess.removeIdle(['a'], EARLIER, () => expect.unreachable())).toEqual([]);
});

test('of many only what was not seen is removed', async () => {
  const recentAccess = createRecentAccess(now);
  await recentAccess.touch('b');
  const removed: string[] = [];
  const removal = async (keys: readonly string[]) => void removed.push(...keys);
  expect(await recentAccess.removeIdle(['a', 'b', 'c'], EARLIER, removal)).toEqual(['a', 'c']);
  expect(removed).toEqual(['a', 'c']);
});

test('who recentAccess during a removal waits for its end', async () => {
  const recentAccess = createRecentAccess(now);
  const order: string[] = [];
  const gate = Promise.withResolvers<void>();
  const removing = recentAccess.removeIdle(['a'], EARLIER, async () => {
    await gate.promise;
    order.push('removed');
  });
  const looking = recentAccess.touch('a').then(() => order.push('looked'));
  await recentAccess.touch('b');
  gate.resolve();
  await Promise.all([removing, looking]);
  expect(order).toEqual(['removed', 'looked']);
});

test('a removal that fails is for who removes, and leases up nobody', async () => {
  const recentAccess = createRecentAccess(now);
  const removing = recentAccess.removeIdle(['a'], EARLIER, () => Promise.reject(new Error('a disk of tears')));
  await Promise.all([recentAccess.touch('a'), expect(removing).rejects.toThrow('a disk of tears')]);
  await recentAccess.touch('a');
});

test('remembers the last 50 000 of very many, in memory that is bounded', async () => {
  const recentAccess = createRecentAccess(now);
  const count = 150_000;
  for (let i = 0; i < count; i++) {
    time += 1;
    await recentAccess.touch(`local/app@sha256:${i}`);
  }
  const remembered = (from: number, to: number) => {
    let found = 0;
    for (let i = from; i < to; i++) if (recentAccess.isAccessedAfter(`local/app@sha256:${i}`, EARLIER)) found += 1;
    return found;
  };
  // Few keys may have their hash in common, or more than their part of one set.
  expect(remembered(count - 50_000, count)).toBeGreaterThan(49_900);
  expect(remembered(0, count)).toBeLessThanOrEqual(4096 * 32);
  expect(remembered(count, 2 * count)).toBeLessThan(100);
});
