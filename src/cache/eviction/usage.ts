// What content there is, how large, and in which order it was used last. The order is kept as such: a clock that jumps does not change it.

import { stat, utimes } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
import { createBlobFiles } from '../../content/blob-files.ts';
import { listContent } from '../../content/inventory.ts';
import { sortInSteps } from '../../content/sort-in-steps.ts';
import type { Digest } from '../../oci/digest.ts';

export interface Used {
  readonly digest: Digest;
  /** In bytes. */
  readonly size: number;
  /** In milliseconds, by the clock that was given. */
  readonly usedAt: number;
  /** The use that would be known after a restart. */
  readonly recordedAt: number;
}

export interface Usage {
  readonly bytes: number;
  readonly count: number;
  find(digest: Digest): Used | undefined;
  /** The content is there, and is from now on what was used last. */
  note(used: Used): void;
  /** The content is not there any more. */
  forget(digest: Digest): void;
  /** What was found on the disk, in any order: all of it was used before whatever is noted meanwhile. Counts when it resolves. */
  load(found: readonly Used[]): Promise<void>;
  /** The longest unused first. Content that is noted or forgotten meanwhile moves or goes. */
  oldest(): Iterable<Used>;
}

/** How far a clock may be behind what it has said before it counts as set back. */
const CLOCK_TOLERANCE_MS = 60_000;

const LOADED_PER_TURN = 5000;

export function createUsage(): Usage {
  // A Map keeps the order in which its keys came.
  let entries = new Map<Digest, Used>();
  let bytes = 0;
  let latest = Number.NEGATIVE_INFINITY;

  function forget(digest: Digest): void {
    bytes -= entries.get(digest)?.size ?? 0;
    entries.delete(digest);
  }

  function add(used: Used): void {
    forget(used.digest);
    entries.set(used.digest, used);
    bytes += used.size;
  }

  /** What was used at a time that has not come yet would never grow old. */
  function setBack(time: number): void {
    latest = time;
    for (const [digest, used] of entries) if (used.usedAt > time) entries.set(digest, { ...used, usedAt: time });
  }

  return {
    get bytes() {
      return bytes;
    },
    get count() {
      return entries.size;
    },
    find: digest => entries.get(digest),
    note(used) {
      if (used.usedAt < latest - CLOCK_TOLERANCE_MS) setBack(used.usedAt);
      latest = Math.max(latest, used.usedAt);
      add(used);
    },
    forget,
    async load(found) {
      const loaded = new Map<Digest, Used>();
      let loadedBytes = 0;
      for (const used of await sortInSteps(found, (a, b) => a.usedAt - b.usedAt)) {
        loadedBytes += used.size - (loaded.get(used.digest)?.size ?? 0);
        loaded.set(used.digest, used);
        if (loaded.size % LOADED_PER_TURN === 0) await setImmediate();
      }
      const noted = entries;
      entries = loaded;
      bytes = loadedBytes;
      for (const used of noted.values()) add(used);
    },
    oldest: () => entries.values(),
  };
}

/**
 * When content was used last, across restarts: the time of change of its file. A use sets it, which nothing has to be synced for, and a start
 * reads it from the disk while all else goes on.
 */
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
