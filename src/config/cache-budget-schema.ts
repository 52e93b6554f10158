// Keys of `cache` that say how much of upstreams is kept, and for how long.
import { z } from 'zod';
import { patternsSchema } from './collect-schema.ts';
import { duration, size } from './values.ts';

/** Fields of a schema; `cacheBudget` makes one value of them. */
export function cacheBudgetFields() {
  return {
    /** Undefined: any amount. */
    maxSize: z.union([z.literal('none').transform(() => undefined), size()]).prefault('50GiB'),
    /** Parts of `maxSize`: above `high` content goes until `low` is left. */
    water: z
      .strictObject({ high: part().default(0.95), low: part().default(0.85) })
      .refine(({ high, low }) => low <= high, { path: ['low'], message: 'is more than high' })
      .prefault({}),
    /** Of content that nobody uses; undefined: for ever. */
    maxAge: z.union([z.literal('never').transform(() => undefined), duration({ minMs: 60_000 })]).prefault('never'),
    /** Globs of full names: what such a repository links stays. */
    pin: z.union([z.tuple([]), patternsSchema()]).default([]),
  };
}

interface CacheBudgetKeys {
  readonly maxSize: number | undefined;
  readonly water: { readonly high: number; readonly low: number };
  readonly maxAge: number | undefined;
}

export function cacheBudget({ maxSize, water, maxAge }: CacheBudgetKeys) {
  const partOf = (part: number) => (maxSize === undefined ? undefined : Math.floor(maxSize * part));
  return { highBytes: partOf(water.high), lowBytes: partOf(water.low) ?? 0, maxAgeMs: maxAge };
}

function part() {
  return z.number().min(0).max(1);
}
