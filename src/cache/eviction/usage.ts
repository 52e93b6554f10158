// Which content there is, its size, and its order of use. The order is stored explicitly: a clock that jumps does not change it. With
// hundreds of thousands of items in memory, everything is in columns of numbers: about 80 bytes per item, where objects in a Map take 250
// and burden the garbage collector.
import { stat, utimes } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
import { createBlobFiles } from '../../content/blob-files.ts';
import { listContent } from '../../content/inventory.ts';
import { sortInSteps } from '../../content/sort-in-steps.ts';
import type { Digest } from '../../oci/digest.ts';
import { createDigestTable, NONE } from './digest-table.ts';

export interface Used {
  readonly digest: Digest;
  /** In bytes. */
  readonly size: number;
  /** In milliseconds, by the given clock. */
  readonly usedAt: number;
  /** The last recorded use, as it would be known after a restart. */
  readonly recordedAt: number;
}

/** A snapshot. */
export interface Counted extends Used {
  /** Changes with each use, also within one millisecond. */
  readonly use: number;
}

export interface Usage {
  readonly bytes: number;
  readonly count: number;
  find(digest: Digest): Counted | undefined;
  /** Adds the content, or makes it the most recently used. */
  note(used: Used): void;
  /** The content is gone. */
  forget(digest: Digest): void;
  /** Adds content found on the disk, in any order; it counts as used before anything noted meanwhile. Resolves when all is counted. */
  load(found: readonly Used[]): Promise<void>;
  /** Least recently used first. Content noted or forgotten meanwhile is moved or dropped. */
  oldest(): Iterable<Counted>;
}

/** How far a clock may lag behind its earlier time before it counts as set back. */
const CLOCK_TOLERANCE_MS = 60_000;

const LOADED_PER_TURN = 5000;

export function createUsage(): Usage {
  let uses = createUses();
  let latest = Number.NEGATIVE_INFINITY;

  return {
    get bytes() {
      return uses.bytes;
    },
    get count() {
      return uses.count;
    },
    find: digest => uses.find(digest),
    note(used) {
      // Content last used in the future would never expire.
      if (used.usedAt < latest - CLOCK_TOLERANCE_MS) {
        latest = used.usedAt;
        uses.endAt(latest);
      }
      latest = Math.max(latest, used.usedAt);
      uses.add(used);
    },
    forget: digest => uses.remove(digest),
    async load(found) {
      const loaded = createUses();
      for (const used of await sortInSteps(found, (a, b) => a.usedAt - b.usedAt)) {
        loaded.add(used);
        if (loaded.count % LOADED_PER_TURN === 0) await setImmediate();
      }
      const noted = uses;
      uses = loaded;
      for (const used of noted.list()) uses.add(used);
    },
    oldest: () => uses.list(),
  };
}

/** The position of an iteration: the next row it yields. */
interface Cursor {
  next: number;
}

/** Each row is also linked into the order of use, a ring through row 0: the oldest follows it. */
function createUses() {
  const digests = createDigestTable();
  let capacity = 0;
  let sizes = new Float64Array(0);
  let usedAt = new Float64Array(0);
  let recordedAt = new Float64Array(0);
  let uses = new Uint32Array(0);
  let before = new Uint32Array(1);
  let after = new Uint32Array(1);
  const cursors = new Set<Cursor>();
  let bytes = 0;
  let count = 0;
  let lastUse = 0;

  function ensureCapacity(row: number): void {
    if (row < capacity) return;
    capacity = Math.max(1024, capacity * 2);
    const grow = ({ buffer }: { readonly buffer: ArrayBuffer }, rowBytes: number) =>
      buffer.transfer(capacity * rowBytes);
    sizes = new Float64Array(grow(sizes, 8));
    usedAt = new Float64Array(grow(usedAt, 8));
    recordedAt = new Float64Array(grow(recordedAt, 8));
    uses = new Uint32Array(grow(uses, 4));
    before = new Uint32Array(grow(before, 4));
    after = new Uint32Array(grow(after, 4));
  }

  const at = (numbers: Float64Array | Uint32Array, row: number) => numbers[row] ?? 0;

  function link(one: number, next: number): void {
    after[one] = next;
    before[next] = one;
  }

  function append(row: number): void {
    link(at(before, NONE), row);
    link(row, NONE);
    for (const cursor of cursors) if (cursor.next === NONE) cursor.next = row;
  }

  function takeOut(row: number): void {
    for (const cursor of cursors) if (cursor.next === row) cursor.next = at(after, row);
    link(at(before, row), at(after, row));
    bytes -= at(sizes, row);
  }

  function read(row: number): Counted {
    return {
      digest: digests.get(row),
      size: at(sizes, row),
      usedAt: at(usedAt, row),
      recordedAt: at(recordedAt, row),
      use: at(uses, row),
    };
  }

  return {
    get bytes() {
      return bytes;
    },
    get count() {
      return count;
    },
    find(digest: Digest): Counted | undefined {
      const row = digests.find(digest);
      return row === NONE ? undefined : read(row);
    },
    add(used: Used): void {
      const known = digests.find(used.digest);
      const row = known === NONE ? digests.add(used.digest) : known;
      ensureCapacity(row);
      if (known === NONE) count += 1;
      else takeOut(row);
      sizes[row] = used.size;
      usedAt[row] = used.usedAt;
      recordedAt[row] = used.recordedAt;
      lastUse += 1;
      uses[row] = lastUse;
      bytes += used.size;
      append(row);
    },
    remove(digest: Digest): void {
      const row = digests.find(digest);
      if (row === NONE) return;
      takeOut(row);
      count -= 1;
      digests.remove(row);
    },
    /** Everything used later gets this time. */
    endAt(time: number): void {
      for (let row = at(after, NONE); row !== NONE; row = at(after, row)) {
        if (at(usedAt, row) <= time) continue;
        usedAt[row] = time;
        lastUse += 1;
        uses[row] = lastUse;
      }
    },
    *list(): Generator<Counted, void> {
      const cursor: Cursor = { next: at(after, NONE) };
      cursors.add(cursor);
      try {
        while (cursor.next !== NONE) {
          const row = cursor.next;
          cursor.next = at(after, row);
          yield read(row);
        }
      } finally {
        cursors.delete(cursor);
      }
    },
  };
}

/**
 * The last use of content across restarts: the ctime of its file. It needs no sync to record, and a start reads it from the disk in the
 * background.
 */
export interface UseTimes {
  /** Records a use. No effect on absent content. */
  record(digest: Digest, usedAt: number): Promise<void>;
  /** All content, in no particular order. Content added or removed meanwhile may be included or not. */
  read(signal?: AbortSignal): AsyncGenerator<Used>;
}

/** For the disk store in `directory`. */
export function createUseTimes({ directory }: { readonly directory: string }): UseTimes {
  const { pathOf } = createBlobFiles(directory);
  return {
    async record(digest, usedAt) {
      const seconds = usedAt / 1000;
      // A use that cannot be recorded does no harm.
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
