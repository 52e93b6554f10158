// What a benchmark is: rows of the table, and how to take a pair of figures for each of them.
import type { Figures } from './comparison.ts';
import type { Server } from './processes.ts';
import type { Pair } from './registries.ts';

/** docs/benchmarks.md has a line for each. */
export interface Row {
  /** For --row and the committed figures; stays when `what` is worded again. */
  readonly name: string;
  readonly what: string;
  readonly unit: string;
  readonly better: 'higher' | 'lower';
  /** Whom Veneer is compared with, where that is not distribution's registry. */
  readonly peer?: string;
}

/** Takes one pair of figures for each row, in the order of the rows. `pair` counts from 0. */
type Measure = (pair: number) => Promise<readonly Figures[]>;

/** Rows that are measured together. */
export interface Benchmark {
  readonly rows: readonly Row[];
  /** Of what takes minutes. All else is measured as often as is asked for. */
  readonly maxPairs?: number;
  /** Starts what is measured. What has to be stopped afterwards continues the stack. */
  prepare(environment: Environment): Promise<Measure>;
}

export interface Environment {
  /** An empty folder for this benchmark alone. */
  readonly directory: string;
  /** Of this benchmark: ends with its last pair. */
  readonly stack: AsyncDisposableStack;
  /** The registry that all pull from, and two proxies of it: the same for all benchmarks, started by the first that asks. */
  upstream(): Promise<Server>;
  proxies(): Promise<Pair>;
}
