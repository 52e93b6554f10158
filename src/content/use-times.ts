// When content was used last, across restarts: the time of change of its file. Whoever uses it sets the time, which nothing has to be
// synced for; and whoever starts reads it from the disk, while all else goes on.
import { stat, utimes } from 'node:fs/promises';
import type { Digest } from '../oci/digest.ts';
import { createBlobFiles } from './blob-files.ts';
import { listContent } from './inventory.ts';
import type { Used } from './usage.ts';

export interface UseTimes {
  /** Sets the time of a use. Content that is not there stays so. */
  record(digest: Digest, usedAt: number): Promise<void>;
  /** All content, in no order. What comes or goes meanwhile may be among it or not. */
  read(signal?: AbortSignal): AsyncGenerator<Used>;
}

/** Of the disk store in `directory`. */
export function createUseTimes({ directory }: { readonly directory: string }): UseTimes {
  const { pathOf } = createBlobFiles(directory);
  return {
    async record(digest, usedAt) {
      const seconds = usedAt / 1000;
      // A use that is not recorded makes nothing wrong.
      await utimes(pathOf(digest), seconds, seconds).catch(() => {});
    },
    async *read(signal) {
      for await (const digest of listContent(directory)) {
        signal?.throwIfAborted();
        const stats = await stat(pathOf(digest), { throwIfNoEntry: false });
        if (!stats?.isFile()) continue;
        const { size, mtimeMs: usedAt } = stats;
        yield { digest, size, usedAt, recordedAt: usedAt };
      }
    },
  };
}
