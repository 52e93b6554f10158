// What a row came to, how the committed figures keep it, and whether it fell behind them.
import { z } from 'zod';
import type { Row } from './benchmark.ts';
import { compare, type Figures } from './comparison.ts';

const outcomeSchema = z.object({
  name: z.string(),
  what: z.string(),
  unit: z.string(),
  better: z.enum(['higher', 'lower']),
  peer: z.string(),
  /** Medians of each side, in the unit. */
  veneerMedian: z.number(),
  peerMedian: z.number(),
  /** Veneer divided by its peer: the median of all pairs, and what it may be as well. */
  ratio: z.number(),
  low: z.number(),
  high: z.number(),
  pairs: z.int().positive(),
  /** Load of the machine in the minute before the row, in processors. Of an idle one it is below 1. */
  load: z.number(),
  measuredAt: z.iso.datetime(),
});

export type Outcome = z.infer<typeof outcomeSchema>;

const reportSchema = z.object({
  machine: z.object({ processor: z.string(), cores: z.int(), node: z.string() }),
  rows: z.array(outcomeSchema),
});

/** What --json writes, and docs/benchmarks.json has. */
export type Report = z.infer<typeof reportSchema>;

/** Throws for text that is no report. */
export function parseReport(text: string): Report {
  return reportSchema.parse(JSON.parse(text));
}

interface Circumstances {
  readonly load: number;
  readonly at: Date;
}

/** Figures are rounded to what they can tell. */
export function describeOutcome(row: Row, pairs: readonly Figures[], { load, at }: Circumstances): Outcome {
  const { veneer, peer, ratio, low, high } = compare(pairs);
  const { name, what, unit, better } = row;
  return {
    name,
    what,
    unit,
    better,
    peer: row.peer ?? 'distribution',
    veneerMedian: round(veneer),
    peerMedian: round(peer),
    ratio: round(ratio),
    low: round(low),
    high: round(high),
    pairs: pairs.length,
    load: round(load),
    measuredAt: at.toISOString(),
  };
}

/** Rows of `taken` in place of those of the same name; the order is that of `names`, and rows of other names go. */
export function mergeRows(
  kept: readonly Outcome[],
  taken: readonly Outcome[],
  names: readonly string[],
): readonly Outcome[] {
  const rows = new Map([...kept, ...taken].map(row => [row.name, row]));
  return names.flatMap(name => rows.get(name) ?? []);
}

/** What a ratio may differ by between two runs although all pairs of each agree. Where a row has one pair, nothing tells its noise. */
const TOLERANCE = 0.05;
const TOLERANCE_OF_ONE = 0.4;

/** Rows that are worse than the committed ones by more than the noise of both: a line for people each. */
export function findSlower(taken: readonly Outcome[], committed: readonly Outcome[]): readonly string[] {
  const byName = new Map(committed.map(row => [row.name, row]));
  return taken.flatMap(row => {
    const before = byName.get(row.name);
    if (!before || !isSlower(row, before)) return [];
    const range = ({ ratio, low, high }: Outcome) => `${format(ratio)} (${format(low)} to ${format(high)})`;
    return [`${row.name}: ${row.what}: ${range(row)}, committed ${range(before)}; better is ${row.better}`];
  });
}

function isSlower(row: Outcome, before: Outcome): boolean {
  const tolerance = 1 + (Math.min(row.pairs, before.pairs) < 3 ? TOLERANCE_OF_ONE : TOLERANCE);
  return row.better === 'higher' ? row.high * tolerance < before.low : row.low > before.high * tolerance;
}

function round(figure: number): number {
  return Number(figure.toPrecision(4));
}

function format(figure: number): string {
  return figure.toFixed(2);
}
