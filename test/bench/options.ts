// The command line of `npm run bench`.
import { parseArgs } from 'node:util';
import type { Benchmark, Row } from './benchmark.ts';

export const USAGE = `npm run bench -- [options]

  --row NAME    measure this row, and those that are measured with it; may be repeated
  --list        tell the names of all rows, and measure nothing
  --pairs N     how often each side is measured: 7, or fewer where a row takes minutes
  --json        write the outcome as JSON instead of a table
  --check       fail where a ratio is worse than in docs/benchmarks.json by more than the noise of both
  --save        write the outcome to docs/benchmarks.json, to the graph docs/benchmarks.svg, and to the table in
                docs/benchmarks.md; rows that were not measured stay as they are`;

export interface Options {
  readonly rows: readonly string[];
  readonly pairs: number;
  readonly isHelp: boolean;
  readonly isList: boolean;
  readonly isJson: boolean;
  readonly isCheck: boolean;
  readonly isSave: boolean;
}

const PAIRS = 7;

/** Throws for what the usage does not have. */
export function parseOptions(args: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...args],
    options: {
      row: { type: 'string', multiple: true, default: [] },
      pairs: { type: 'string', default: String(PAIRS) },
      help: { type: 'boolean', short: 'h', default: false },
      list: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      check: { type: 'boolean', default: false },
      save: { type: 'boolean', default: false },
    },
  });
  const pairs = Number(values.pairs);
  if (!Number.isInteger(pairs) || pairs < 1) throw new Error(`--pairs ${values.pairs}: a whole number from 1`);
  return {
    rows: values.row,
    pairs,
    isHelp: values.help,
    isList: values.list,
    isJson: values.json,
    isCheck: values.check,
    isSave: values.save,
  };
}

/** All where no row is named. Throws for a name that no row has. */
export function selectBenchmarks(benchmarks: readonly Benchmark[], names: readonly string[]): readonly Benchmark[] {
  const known = new Set(rowsOf(benchmarks).map(({ name }) => name));
  const unknown = names.filter(name => !known.has(name));
  if (unknown.length > 0) throw new Error(`no row is called ${unknown.join(', ')}: --list tells the names`);
  if (names.length === 0) return benchmarks;
  return benchmarks.filter(({ rows }) => rows.some(({ name }) => names.includes(name)));
}

export function rowsOf(benchmarks: readonly Benchmark[]): readonly Row[] {
  return benchmarks.flatMap(({ rows }) => rows);
}
