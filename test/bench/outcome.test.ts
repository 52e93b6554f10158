import { expect, test } from 'vitest';
import type { Row } from './benchmark.ts';
import { compare, type Figures } from './comparison.ts';
import { drawGraph } from './graph.ts';
import { describeOutcome, findSlower, mergeRows, parseReport } from './outcome.ts';
import { formatTable } from './table.ts';

const RATE: Row = { name: 'rate', what: 'rate of <things> & more', unit: 'MiB/s', better: 'higher' };
const TIME: Row = { name: 'time', what: 'time', unit: 'ms', better: 'lower', peer: 'nginx' };

/** Pairs with these ratios. */
function pairsOf(...ratios: readonly number[]): readonly Figures[] {
  return ratios.map(ratio => ({ veneer: ratio * 100, peer: 100 }));
}

function outcomeOf(row: Row, ...ratios: readonly number[]) {
  return describeOutcome(row, pairsOf(...ratios), { load: 0.5, at: new Date(0) });
}

test('compares pair by pair, and leaves one pair at each end out of the noise of seven', () => {
  const pairs = [
    { veneer: 10, peer: 10 },
    { veneer: 200, peer: 100 },
    { veneer: 30, peer: 10 },
    { veneer: 40, peer: 10 },
    { veneer: 50, peer: 10 },
    { veneer: 60, peer: 10 },
    { veneer: 70, peer: 1 },
  ];
  expect(compare(pairs)).toEqual({ veneer: 50, peer: 10, ratio: 4, low: 2, high: 6 });
});

test('takes all of a few pairs for noise', () => {
  expect(compare(pairsOf(1, 3, 2))).toMatchObject({ ratio: 2, low: 1, high: 3 });
  expect(() => compare([])).toThrow('nothing was measured');
});

test.each([
  {
    what: 'a rate below the noise of both',
    now: outcomeOf(RATE, 0.7, 0.7, 0.8),
    before: outcomeOf(RATE, 1, 0.9, 1.1),
    is: true,
  },
  {
    what: 'a rate within the noise',
    now: outcomeOf(RATE, 0.7, 0.7, 0.9),
    before: outcomeOf(RATE, 1, 0.9, 1.1),
    is: false,
  },
  { what: 'a higher rate', now: outcomeOf(RATE, 2, 2, 2), before: outcomeOf(RATE, 1, 1, 1), is: false },
  {
    what: 'a rate lower by less than any two runs differ',
    now: outcomeOf(RATE, 1, 1, 1),
    before: outcomeOf(RATE, 1.04, 1.04, 1.04),
    is: false,
  },
  { what: 'a longer time', now: outcomeOf(TIME, 1.3, 1.3, 1.4), before: outcomeOf(TIME, 1, 0.9, 1.1), is: true },
  { what: 'a shorter time', now: outcomeOf(TIME, 0.5, 0.5, 0.5), before: outcomeOf(TIME, 1, 1, 1), is: false },
  {
    what: 'a time of one pair that is a third longer',
    now: outcomeOf(TIME, 1.33),
    before: outcomeOf(TIME, 1),
    is: false,
  },
  { what: 'a time of one pair that is twice as long', now: outcomeOf(TIME, 2), before: outcomeOf(TIME, 1), is: true },
])('tells whether $what is slower than committed: $is', ({ now, before, is }) => {
  expect(findSlower([now], [before])).toHaveLength(is ? 1 : 0);
});

test('names what is slower, and by how much', () => {
  const [line] = findSlower([outcomeOf(TIME, 3, 3, 4)], [outcomeOf(TIME, 1, 1, 1)]);
  expect(line).toBe('time: time: 3.00 (3.00 to 4.00), committed 1.00 (1.00 to 1.00); better is lower');
});

test('does not check rows that are not committed yet', () => {
  expect(findSlower([outcomeOf(TIME, 9)], [outcomeOf(RATE, 9)])).toEqual([]);
});

test('puts new rows in place of old ones, in the order of the benchmark, and drops what it has no more', () => {
  const merged = mergeRows(
    [outcomeOf(TIME, 1), outcomeOf({ ...TIME, name: 'gone' }, 1)],
    [outcomeOf(RATE, 2), outcomeOf(TIME, 2)],
    ['rate', 'time'],
  );
  expect(merged.map(({ name, ratio }) => ({ name, ratio }))).toEqual([
    { name: 'rate', ratio: 2 },
    { name: 'time', ratio: 2 },
  ]);
});

test('reads what it writes, and refuses what is no report', () => {
  const report = { machine: { processor: 'one', cores: 2, node: 'v26.0.0' }, rows: [outcomeOf(RATE, 1)] };
  expect(parseReport(JSON.stringify(report))).toEqual(report);
  expect(() => parseReport('{"rows": 1}')).toThrow();
});

test('shows medians, the peer, and the ratio with its noise', () => {
  expect(
    formatTable([outcomeOf(TIME, 1, 2, 3)])
      .split('\n')
      .at(-1),
  ).toBe('| time | 200 ms | 100 ms | nginx | lower | 2.00 (1.00 to 3.00) |');
});

test('draws a row to the right where Veneer is ahead, whichever way is better', () => {
  const svg = drawGraph([outcomeOf(RATE, 2, 2, 2), outcomeOf(TIME, 2, 2, 2), outcomeOf(TIME, 0.5, 1, 2)]);
  expect([...svg.matchAll(/<rect class="(\w+)"/g)].map(([, kind]) => kind)).toEqual(['ahead', 'behind', 'even']);
  expect(svg).toContain('rate of &lt;things> &amp; more');
});
