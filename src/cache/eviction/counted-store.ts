// A content store that records usage: each access makes content the most recently used, and additions and removals are counted.

import type { DiskStore } from '../../content/disk.ts';
import { isDiskFull, isOverBudget } from '../../content/free-space.ts';
import type { ContentStore, VerifiedFile } from '../../content/store.ts';
import type { Digest } from '../../oci/digest.ts';
import type { Usage, UseTimes } from './usage.ts';

export interface CountedStore extends ContentStore {
  /** Makes a verified file of the same file system content: it is moved. */
  adopt(file: VerifiedFile): Promise<void>;
  /** Hits and misses since the start: how often content was there when it was opened or read, and how often it had to be fetched. */
  readonly counts: { readonly hits: number; readonly misses: number };
  /** To be called when content was served from memory. */
  use(digest: Digest): void;
  /** Whether the content is currently arriving. */
  isArriving(digest: Digest): boolean;
}

/** The minimum interval between recorded uses. */
const RECORD_EVERY_MS = 60_000;

export function createCountedStore(deps: {
  readonly content: ContentStore & Pick<DiskStore, 'adopt'>;
  readonly usage: Usage;
  readonly times: Pick<UseTimes, 'record'>;
  readonly now: () => Date;
  /** Called after content was stored. */
  readonly onStored: () => void;
  /** Called when the disk had no room for content of this size, as far as it is known. */
  readonly onFull: (bytes: number) => void;
}): CountedStore {
  const { content, usage, times, now, onStored, onFull } = deps;
  const arriving = new Map<Digest, number>();
  const counts = { hits: 0, misses: 0 };

  function note(digest: Digest, size: number): void {
    const usedAt = now().getTime();
    const recordedAt = usage.find(digest)?.recordedAt ?? Number.NEGATIVE_INFINITY;
    const isDue = Math.abs(usedAt - recordedAt) >= RECORD_EVERY_MS;
    usage.note({ digest, size, usedAt, recordedAt: isDue ? usedAt : recordedAt });
    if (isDue) void times.record(digest, usedAt);
  }

  function arrive(digest: Digest, change: 1 | -1): void {
    const count = (arriving.get(digest) ?? 0) + change;
    if (count > 0) arriving.set(digest, count);
    else arriving.delete(digest);
  }

  async function find(digest: Digest): Promise<{ readonly size: number } | undefined> {
    const found = await content.find(digest);
    if (found) note(digest, found.size);
    else usage.forget(digest);
    return found;
  }

  /** Content of known size is not looked up again. */
  async function hit(digest: Digest): Promise<void> {
    counts.hits += 1;
    const known = usage.find(digest);
    if (known) note(digest, known.size);
    else await find(digest);
  }

  return {
    counts,
    find,
    use(digest) {
      const used = usage.find(digest);
      if (used) note(digest, used.size);
    },
    isArriving: digest => arriving.has(digest),
    async open(digest, range) {
      const stream = await content.open(digest, range);
      if (stream) await hit(digest);
      else usage.forget(digest);
      return stream;
    },
    async read(digest, maxBytes) {
      const bytes = await content.read(digest, maxBytes);
      if (bytes) await hit(digest);
      else usage.forget(digest);
      return bytes;
    },
    async put(bytes, algorithm) {
      const digest = await content.put(bytes, algorithm);
      note(digest, bytes.byteLength);
      onStored();
      return digest;
    },
    ingest(body, expected, options) {
      if (!options?.storeElsewhere) counts.misses += 1;
      if (expected) arrive(expected.digest, 1);
      const ingestion = content.ingest(body, expected, options);
      void ingestion.done
        .then(
          ({ digest, size }) => {
            note(digest, size);
            onStored();
          },
          error => {
            if (isDiskFull(error) && !isOverBudget(error)) onFull(expected?.size ?? 0);
          },
        )
        .finally(() => expected && arrive(expected.digest, -1));
      return ingestion;
    },
    async adopt(file) {
      await content.adopt(file);
      note(file.digest, file.size);
      onStored();
    },
    async delete(digest) {
      usage.forget(digest);
      await content.delete(digest);
    },
    close: () => content.close(),
  };
}
