// The keys `hosted.collect`, `hosted.retention` and `hosted.quotas`: what goes by itself, and how much may be there.
import { z } from 'zod';
import { duration, glob, size } from './values.ts';

const TEN_MINUTES_MS = 600_000;

export function collectSchema() {
  return z
    .strictObject({
      /** From the end of one collection to the next; absent: none comes by itself. */
      every: z
        .union([z.literal('off').transform(() => undefined), duration({ minMs: TEN_MINUTES_MS })])
        .prefault('24h'),
      grace: duration().prefault('24h'),
      /** Absent: manifests without a tag stay. */
      untagged: z.union([z.literal('never').transform(() => undefined), duration()]).prefault('never'),
    })
    .transform(({ every, grace, untagged }) => ({ everyMs: every, graceMs: grace, untaggedMs: untagged }));
}

export function retentionSchema() {
  return z
    .strictObject({
      repositories: patternsSchema(),
      tags: patternsSchema(),
      keepNewest: z.int().positive().optional(),
      maxAge: duration().optional(),
    })
    .transform(({ maxAge, ...rest }) => ({ ...rest, maxAgeMs: maxAge }));
}

export function quotaSchema() {
  return z
    .strictObject({ repositories: patternsSchema(), size: size() })
    .transform(({ repositories, size }) => ({ repositories, maxBytes: size }));
}

/** Globs of repositories or of tags. */
export function patternsSchema() {
  return z.array(glob().min(1).max(255)).min(1);
}
