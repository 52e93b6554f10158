import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import type { Benchmark } from './benchmark.ts';
import { BENCHMARKS } from './benchmarks.ts';
import { parseOptions, rowsOf, selectBenchmarks } from './options.ts';

const better = 'higher';
const prepare = async () => async () => [];
const blobs: Benchmark = {
  rows: ['blob-1', 'blob-1-processor'].map(name => ({ name, what: name, unit: 'ms', better })),
  prepare,
};
const starts: Benchmark = { rows: [{ name: 'start', what: 'start', unit: 'ms', better }], prepare };

test('measures all rows by seven pairs where nothing is said', () => {
  expect(parseOptions([])).toMatchObject({ rows: [], pairs: 7, isJson: false, isCheck: false });
  expect(selectBenchmarks([blobs, starts], [])).toEqual([blobs, starts]);
});

test('takes several rows, and the number of pairs', () => {
  const { rows, pairs } = parseOptions(['--row', 'start', '--row=blob-1', '--pairs', '3', '--check']);
  expect({ rows, pairs }).toEqual({ rows: ['start', 'blob-1'], pairs: 3 });
});

test('measures a row together with those that it cannot be measured without', () => {
  expect(selectBenchmarks([blobs, starts], ['blob-1-processor'])).toEqual([blobs]);
});

test.each([
  { args: ['--pairs', '0'], message: '--pairs 0' },
  { args: ['--pairs', 'many'], message: '--pairs many' },
  { args: ['--rows', 'x'], message: '--rows' },
])('refuses $args', ({ args, message }) => {
  expect(() => parseOptions(args)).toThrow(message);
});

test('names the rows that it does not know', () => {
  expect(() => selectBenchmarks([blobs], ['blob-2', 'blob-1'])).toThrow('no row is called blob-2');
});

test('each row has a name of its own, which docs/benchmarks.md explains', () => {
  const names = rowsOf(BENCHMARKS).map(({ name }) => name);
  expect(names).toEqual([...new Set(names)]);
  const page = readFileSync('docs/benchmarks.md', 'utf8');
  const endings = [...page.matchAll(/…(-\w+)/g)].map(([, ending = '']) => ending);
  const explained = (name: string) => page.includes(`\`${name}\``) || endings.some(ending => name.endsWith(ending));
  expect(names.filter(name => !explained(name))).toEqual([]);
});
