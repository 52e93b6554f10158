// The key `hosted`: repositories hosted by Veneer itself.
import { z } from 'zod';
import { duration, glob, size } from './values.ts';

const PREFIX = /^(?:[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*\/)+$/;
/** The prefix of tokens in `/v2/<name>/…`. */
const RESERVED = 'wt/';

export function hostedSchema() {
  return z
    .strictObject({
      /** Empty: nothing is hosted. */
      prefixes: z.array(prefixSchema()).default(['local/']),
      sparse: z.enum(['refuse', 'indexes', 'allow']).default('indexes'),
      deletes: z
        .strictObject({
          tags: z.boolean().default(true),
          manifests: z.boolean().default(true),
          blobs: z.boolean().default(true),
        })
        .prefault({}),
      immutableTags: z.array(tagPatternsSchema()).default([]),
      collect: collectSchema().prefault({}),
      retention: z.array(retentionSchema()).default([]),
      quotas: z.array(quotaSchema()).default([]),
      uploadTimeout: duration({ minMs: 60_000 }).prefault('24h'),
      /** Per repository. */
      maxUploads: z.int().positive().default(1_000),
    })
    .transform(({ uploadTimeout, ...rest }) => ({ ...rest, uploadTimeoutMs: uploadTimeout }));
}

/** Globs of repositories, and globs of their tags. */
function tagPatternsSchema() {
  return z.strictObject({ repositories: patternsSchema(), tags: patternsSchema() });
}

function prefixSchema() {
  return z
    .string()
    .max(128)
    .regex(PREFIX, 'expected the beginning of a repository name, ending in a slash, such as local/')
    .refine(prefix => !prefix.startsWith(RESERVED), 'names under wt/ are reserved for tokens')
    .refine(prefix => !/^(?:localhost|[^/.]*\.[^/]*)\//.test(prefix), 'begins with the host of a registry');
}

const TEN_MINUTES_MS = 600_000;

function collectSchema() {
  return z
    .strictObject({
      /** From the end of one collection to the start of the next; absent: never automatically. */
      every: z
        .union([z.literal('off').transform(() => undefined), duration({ minMs: TEN_MINUTES_MS })])
        .prefault('24h'),
      grace: duration().prefault('24h'),
      /** Absent: untagged manifests are retained. */
      untagged: z.union([z.literal('never').transform(() => undefined), duration()]).prefault('never'),
    })
    .transform(({ every, grace, untagged }) => ({ everyMs: every, graceMs: grace, untaggedMs: untagged }));
}

function retentionSchema() {
  return z
    .strictObject({
      repositories: patternsSchema(),
      tags: patternsSchema(),
      keepNewest: z.int().positive().optional(),
      maxAge: duration().optional(),
    })
    .transform(({ maxAge, ...rest }) => ({ ...rest, maxAgeMs: maxAge }));
}

function quotaSchema() {
  return z
    .strictObject({ repositories: patternsSchema(), size: size() })
    .transform(({ repositories, size }) => ({ repositories, maxBytes: size }));
}

/** Globs of repositories or of tags. */
export function patternsSchema() {
  return z.array(glob().min(1).max(255)).min(1);
}
