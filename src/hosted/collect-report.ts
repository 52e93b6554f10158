// What a collection did, or would do: for people, and for programs that read it as JSON.
import { z } from 'zod';

const count = z.int().nonnegative();

const tallySchema = z.object({
  tags: count,
  manifests: count,
  blobs: count,
  /** Of the manifests and blobs, as repositories link them: what two repositories link counts twice. */
  bytes: count,
});

const repositorySchema = z.object({ repository: z.string(), removed: tallySchema, kept: tallySchema });

export const collectReportSchema = z.object({
  /** Whether nothing was changed. */
  dryRun: z.boolean(),
  startedAt: z.iso.datetime(),
  finishedAt: z.iso.datetime(),
  /** Those that lose something. */
  repositories: z.array(repositorySchema),
  removed: tallySchema,
  kept: tallySchema,
  /** Content that no repository links: what a crash left. */
  orphans: z.object({ blobs: count, bytes: count }),
  /** What the disk gets back: content goes with its last link, once; orphans are part of it. */
  freedBytes: count,
});

export const collectProgressSchema = z.object({
  /** Finished ones. */
  repositories: count,
  /** Tags, manifests, blobs and files that were looked at. */
  visited: count,
});

export type Tally = z.infer<typeof tallySchema>;
export type RepositoryReport = z.infer<typeof repositorySchema>;
export type CollectReport = z.infer<typeof collectReportSchema>;
export type CollectProgress = z.infer<typeof collectProgressSchema>;

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
