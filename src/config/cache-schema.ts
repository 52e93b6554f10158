// The key `cache`: how much of the upstreams' content is cached, for how long, and when an upstream is asked again.
import { z } from 'zod';
import { patternsSchema } from './hosted-schema.ts';
import { duration, glob, MAX_TIMER_MS, size } from './values.ts';

export function cacheSchema() {
  return z
    .strictObject({
      tagFreshness: duration().prefault('5m'),
      freshness: freshnessSchema(),
      stale: staleSchema(),
      negative: negativeSchema(),
      /** How long what nobody waits for any more is fetched on, where that is worth it. */
      abandoned: duration({ maxMs: MAX_TIMER_MS }).prefault('5m'),
      /** What is worth it: so much is there, or no more than so much is left. */
      finish: z
        .strictObject({ part: z.number().min(0).max(1).default(0.5), rest: size().prefault('16MiB') })
        .transform(({ part, rest }) => ({ part, restBytes: rest }))
        .prefault({}),
      ...cacheBudgetFields(),
    })
    .transform(({ tagFreshness, negative, abandoned, maxSize, water, maxAge, ...rest }) => ({
      ...rest,
      budget: cacheBudget({ maxSize, water, maxAge }),
      tagFreshnessMs: tagFreshness,
      negativeMs: negative,
      abandonedMs: abandoned,
    }));
}

function cacheBudgetFields() {
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

function cacheBudget({ maxSize, water, maxAge }: CacheBudgetKeys) {
  const partOf = (part: number) => (maxSize === undefined ? undefined : Math.floor(maxSize * part));
  return { highBytes: partOf(water.high), lowBytes: partOf(water.low) ?? 0, maxAgeMs: maxAge };
}

function part() {
  return z.number().min(0).max(1);
}

const STALE_CAUSES = ['unavailable', 'notFound', 'unauthorized'] as const;

const MAX_RULES = 1000;

/** Rules for some tags, in order: the first that matches decides. */
function freshnessSchema() {
  const globs = z.array(glob().min(1)).min(1);
  const rule = z
    .strictObject({ images: globs.default(['**']), tags: globs.default(['*']), time: duration() })
    .transform(({ time, ...rest }) => ({ ...rest, timeMs: time }));
  return z.array(rule).max(MAX_RULES).default([]);
}

function staleSchema() {
  return z
    .strictObject({
      maxAge: duration().prefault('7d'),
      /** Which failures of an upstream a stored copy is served for. */
      on: z.array(z.enum(STALE_CAUSES)).default(['unavailable']),
    })
    .transform(({ maxAge, on }) => ({ maxAgeMs: maxAge, on }))
    .prefault({});
}

/** How long a 404 is remembered. */
function negativeSchema() {
  return duration({ maxMs: 86_400_000 }).prefault('10s');
}
