// Sorts in steps: a hundred thousand items take so long that other work must run in between.
import { setImmediate } from 'node:timers/promises';

/** How many are sorted, or merged, in one turn of the event loop. */
const STEP = 2000;

/** Stable. The list must not change meanwhile. */
export async function sortInSteps<T>(items: readonly T[], compare: (a: T, b: T) => number): Promise<readonly T[]> {
  let runs: (readonly T[])[] = [];
  for (let at = 0; at < items.length; at += STEP) {
    if (at > 0) await setImmediate();
    runs.push(items.slice(at, at + STEP).sort(compare));
  }
  while (runs.length > 1) {
    const merged: (readonly T[])[] = [];
    for (let at = 0; at < runs.length; at += 2) merged.push(await merge(runs[at] ?? [], runs[at + 1] ?? [], compare));
    runs = merged;
  }
  return runs[0] ?? [];
}

async function merge<T>(first: readonly T[], second: readonly T[], compare: (a: T, b: T) => number) {
  const merged: T[] = [];
  let [i, j] = [0, 0];
  for (let a = first[0], b = second[0]; a !== undefined || b !== undefined; ) {
    if (a !== undefined && (b === undefined || compare(a, b) <= 0)) {
      merged.push(a);
      a = first[++i];
    } else if (b !== undefined) {
      merged.push(b);
      b = second[++j];
    }
    if (merged.length % STEP === 0) await setImmediate();
  }
  return merged;
}
