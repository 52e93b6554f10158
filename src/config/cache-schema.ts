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
      /** How long a transfer without readers continues where it is worth finishing. */
      abandoned: duration({ maxMs: MAX_TIMER_MS }).prefault('5m'),
      /** Worth finishing: this fraction has arrived, or at most this many bytes are left. */
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
    /** Undefined: unlimited. */
    maxSize: z.union([z.literal('none').transform(() => undefined), size()]).prefault('50GiB'),
    /** Fractions of `maxSize`: above `high`, content is evicted until `low` is reached. */
    water: z
      .strictObject({ high: part().default(0.95), low: part().default(0.85) })
      .refine(({ high, low }) => low <= high, { path: ['low'], message: 'is more than high' })
      .prefault({}),
    /** For unused content; undefined: unlimited. */
    maxAge: z.union([z.literal('never').transform(() => undefined), duration({ minMs: 60_000 })]).prefault('never'),
    /** Globs of full repository names whose content is never evicted. */
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

/** Rules for individual tags, in order: the first match wins. */
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
      /** The upstream failures for which a stale copy is served. */
      on: z.array(z.enum(STALE_CAUSES)).default(['unavailable']),
    })
    .transform(({ maxAge, on }) => ({ maxAgeMs: maxAge, on }))
    .prefault({});
}

/** How long a 404 is cached. */
function negativeSchema() {
  return duration({ maxMs: 86_400_000 }).prefault('10s');
}
