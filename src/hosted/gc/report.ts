// The report of a garbage collection: as text, as JSON, and as lines while it runs.
import { z } from 'zod';

const count = z.int().nonnegative();

const tallySchema = z.object({
  tags: count,
  manifests: count,
  blobs: count,
  /** Manifests and blobs as linked by repositories: content linked by two repositories counts twice. */
  bytes: count,
});

const repositorySchema = z.object({ repository: z.string(), removed: tallySchema, kept: tallySchema });

export const gcReportSchema = z.object({
  /** Whether this was a dry run. */
  dryRun: z.boolean(),
  startedAt: z.iso.datetime(),
  finishedAt: z.iso.datetime(),
  /** Those that something was removed from. */
  repositories: z.array(repositorySchema),
  removed: tallySchema,
  kept: tallySchema,
  /** Content that no repository links, as left by a crash. */
  orphans: z.object({ blobs: count, bytes: count }),
  /** Content that repositories link and the disk has not: it was damaged and set aside, or lost. Only a push brings it back. */
  missing: z.object({
    blobs: count,
    bytes: count,
    /** Some of it. */
    content: z.array(z.object({ digest: z.string(), size: count, repositories: z.array(z.string()) })),
  }),
  /** What the disk gets back: content goes with its last link, once; orphans are part of it. */
  freedBytes: count,
});

const gcProgressSchema = z.object({
  /** Finished ones. */
  repositories: count,
  /** Examined tags, manifests, blobs and files. */
  visited: count,
});

export type Tally = z.infer<typeof tallySchema>;
export type RepositoryReport = z.infer<typeof repositorySchema>;
export type GcReport = z.infer<typeof gcReportSchema>;
export type GcProgress = z.infer<typeof gcProgressSchema>;

export const NOTHING: Tally = { tags: 0, manifests: 0, blobs: 0, bytes: 0 };

export function addTally(a: Tally, b: Tally): Tally {
  return {
    tags: a.tags + b.tags,
    manifests: a.manifests + b.manifests,
    blobs: a.blobs + b.blobs,
    bytes: a.bytes + b.bytes,
  };
}

export function isNothing({ tags, manifests, blobs }: Tally): boolean {
  return tags + manifests + blobs === 0;
}

export const GC_LINES_MEDIA_TYPE = 'application/x-ndjson';

/** Progress while it runs, then the result: sent by the API and read by the command line. */
export const gcLineSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('progress'), progress: gcProgressSchema }),
  z.object({ kind: z.literal('report'), report: gcReportSchema }),
  z.object({ kind: z.literal('error'), message: z.string() }),
]);

export type GcLine = z.infer<typeof gcLineSchema>;

export function encodeLine(line: GcLine): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(line)}\n`);
}
