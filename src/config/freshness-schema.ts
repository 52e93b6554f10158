// What is believed of upstreams without asking, and for how long: keys of `cache`.
import { z } from 'zod';
import { duration, glob } from './values.ts';

const STALE_CAUSES = ['unavailable', 'notFound', 'unauthorized'] as const;

const MAX_RULES = 1000;

/** Rules for some tags, in order: the first that matches decides. */
export function freshnessSchema() {
  const globs = z.array(glob().min(1)).min(1);
  const rule = z
    .strictObject({ images: globs.default(['**']), tags: globs.default(['*']), time: duration() })
    .transform(({ time, ...rest }) => ({ ...rest, timeMs: time }));
  return z.array(rule).max(MAX_RULES).default([]);
}

export function staleSchema() {
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
export function negativeSchema() {
  return duration({ maxMs: 86_400_000 }).prefault('10s');
}
