// Output of the cache administration as lines of JSON: progress while it runs, then the result. Sent by the API and read by the command
// line.
import { z } from 'zod';
import { CONTENT_KINDS } from '../../content/inventory.ts';
import { isDigest } from '../../oci/digest.ts';

export const CACHE_LINES_MEDIA_TYPE = 'application/x-ndjson';

const count = z.int().nonnegative();
const tally = z.object({ count, bytes: count });
const time = z.iso.datetime();
const digest = z.string().refine(isDigest);

const statSchema = z.object({
  kind: z.literal('stat'),
  bytes: count,
  count,
  /** Whether everything on the disk has been counted since the start. */
  isCounted: z.boolean(),
  /** Undefined where there is no limit. */
  highBytes: count.optional(),
  lowBytes: count.optional(),
  maxAgeMs: count.optional(),
  /** Patterns. */
  pin: z.array(z.string()),
  /** Since the start; absent where no service runs. */
  hits: count.optional(),
  misses: count.optional(),
});

const repositorySchema = z.object({
  kind: z.literal('repository'),
  /** `<upstream>/<repository>` */
  repository: z.string(),
  manifests: count,
  blobs: count,
  /** Their cached content. Content linked by two repositories counts for both. */
  bytes: count,
  /** The last use of any of it; absent where none is cached. */
  usedAt: time.optional(),
});

const contentSchema = z.object({
  kind: z.literal('content'),
  digest,
  /** Absent for a blob. */
  contentType: z.string().optional(),
  size: count,
  usedAt: time,
});

const prunedSchema = z.object({
  kind: z.literal('pruned'),
  /** Whether this was a dry run. */
  dryRun: z.boolean(),
  removed: tally,
  left: tally,
});

const verifiedSchema = z.object({ kind: z.literal('verified'), seen: tally, damaged: tally });

export const cacheLineSchema = z.discriminatedUnion('kind', [
  statSchema,
  repositorySchema,
  contentSchema,
  prunedSchema,
  verifiedSchema,
  /** Damaged content that was set aside, and how to repair it. */
  z.object({ kind: z.literal('damaged'), of: z.enum(CONTENT_KINDS), digest, size: count, remedy: z.string() }),
  z.object({ kind: z.literal('progress'), done: tally }),
  z.object({ kind: z.literal('error'), message: z.string() }),
]);

export type CacheLine = z.infer<typeof cacheLineSchema>;
export type RepositoryLine = z.infer<typeof repositorySchema>;
export type StatLine = z.infer<typeof statSchema>;
export type Tally = z.infer<typeof tally>;

export function encodeLine(line: CacheLine): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(line)}\n`);
}
