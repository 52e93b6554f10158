import { expect, test } from 'vitest';
import { createFairQueue } from '../../../src/builds/queue/queue.ts';

function serveAll<T>(line: ReturnType<typeof createFairQueue<T>>): T[] {
  const served: T[] = [];
  for (let item = line.take(); item !== undefined; item = line.take()) served.push(item);
  return served;
}

function lineOf(items: readonly (readonly [string, string, number?])[]) {
  const line = createFairQueue<string>();
  for (const [item, caller, priority = 0] of items) line.add(item, { caller, priority });
  return line;
}

test('serves one caller in order', () => {
  expect(
    serveAll(
      lineOf([
        ['1', 'a'],
        ['2', 'a'],
        ['3', 'a'],
      ]),
    ),
  ).toEqual(['1', '2', '3']);
});

test('serves callers in turn', () => {
  const line = lineOf([
    ['a1', 'a'],
    ['a2', 'a'],
    ['a3', 'a'],
    ['b1', 'b'],
    ['b2', 'b'],
    ['c1', 'c'],
  ]);
  expect(serveAll(line)).toEqual(['a1', 'b1', 'c1', 'a2', 'b2', 'a3']);
});

test('a caller with one item does not wait for the hundred of another', () => {
  const line = createFairQueue<string>();
  for (let n = 0; n < 100; n += 1) line.add(`many ${n}`, { caller: 'many', priority: 0 });
  line.take();
  line.add('one', { caller: 'one', priority: 0 });
  expect([line.take(), line.take()]).toContain('one');
});

test('serves higher priorities first, regardless of who asks', () => {
  const line = lineOf([
    ['low', 'a', -1],
    ['normal', 'a'],
    ['urgent', 'b', 5],
    ['more urgent', 'a', 10],
  ]);
  expect(serveAll(line)).toEqual(['more urgent', 'urgent', 'normal', 'low']);
});

test('forgets who is removed, and says whether he waited', () => {
  const line = lineOf([
    ['1', 'a'],
    ['2', 'b'],
  ]);
  expect([line.remove('1'), line.remove('1'), line.size]).toEqual([true, false, 1]);
  expect(serveAll(line)).toEqual(['2']);
  expect(line.remove('2')).toBe(false);
});

test('who has to wait is passed over, and keeps the place', () => {
  const line = lineOf([
    ['s1', '', 1],
    ['s2', '', 1],
    ['k1', 'k'],
  ]);
  expect(line.take(caller => caller === '')).toBe('k1');
  expect(line.take(caller => caller === '')).toBeUndefined();
  expect(serveAll(line)).toEqual(['s1', 's2']);
});
