// Space on a full disk for deletions: a file of its own, which is removed when records cannot be deleted or opened for lack of space, and is
// written again as soon as it can be.
import { randomBytes } from 'node:crypto';
import { existsSync, rmSync, statfsSync } from 'node:fs';
import { appendFile, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { makeDirectory } from './data-directory.ts';
import type { SqliteStore } from './sqlite.ts';

export interface Reserve {
  /** Frees the space; returns false where there was none to free. */
  release(): boolean;
  /** Takes the space again, or what there is of it. Never rejects. */
  restore(): Promise<void>;
  /** For the operator: that the disk is full, where it is. */
  findNote(): Promise<string | undefined>;
  /** Takes the space for the next start. */
  close(): Promise<void>;
}

/** What SQLite's write-ahead log grows to before it begins anew, with its index: no number of deletions takes more. */
const RESERVE_BYTES = 4 * 1024 * 1024 + 256 * 1024;
/** With less than this, a disk is full. */
const FULL_BYTES = 1024 * 1024;
/** Deletions come in great numbers, and must not free and take the space each time. */
const RESTORE_AFTER_MS = 1000;

const FULL = 'the disk of the data directory is full: pulls go on, nothing new is kept, and deletions make room';

const FILE = 'reserve';

/** In the data directory, which is created if absent. On a full disk its space is free when this returns, until `restore`. Throws StateFault. */
export function createReserve(directory: string): Reserve {
  makeDirectory(directory);
  const path = join(directory, FILE);
  let restoring: Promise<void> = Promise.resolve();
  let timer: NodeJS.Timeout | undefined;
  // As far as this process knows: then not every change has to look.
  let isWhole = false;

  async function fill(): Promise<void> {
    const missing = RESERVE_BYTES - ((await stat(path, { throwIfNoEntry: false }))?.size ?? 0);
    const bytes = Math.max(0, Math.min(missing, freeOf(await statfs(directory)) - 4096));
    // Random, as a file system may keep nothing of zeros.
    if (bytes > 0) await appendFile(path, await promisify(randomBytes)(bytes), { mode: 0o600 });
    isWhole = bytes >= missing;
  }

  function restore(): Promise<void> {
    clearTimeout(timer);
    if (isWhole) return restoring;
    // What others were quicker to take is taken another time.
    restoring = restoring.then(fill).catch(() => {});
    return restoring;
  }

  function release(): boolean {
    if (!existsSync(path)) return false;
    rmSync(path);
    isWhole = false;
    clearTimeout(timer);
    timer = setTimeout(() => void restore(), RESTORE_AFTER_MS);
    timer.unref();
    return true;
  }

  if (freeOf(statfsSync(directory)) < FULL_BYTES) rmSync(path, { force: true });
  return {
    release,
    restore,
    async findNote() {
      if (isWhole && freeOf(await statfs(directory)) >= FULL_BYTES) return undefined;
      await restore();
      return freeOf(await statfs(directory)) < FULL_BYTES ? FULL : undefined;
    },
    close: restore,
  };
}

/** A file system without a size of its own says 0. */
function freeOf({
  bavail,
  bsize,
  blocks,
}: {
  readonly bavail: number;
  readonly bsize: number;
  readonly blocks: number;
}) {
  return blocks === 0 ? Number.POSITIVE_INFINITY : bavail * bsize;
}

/** The same store, whose deletions work on a full disk. Additions use nothing of the reserve. */
export function createReservedStore(store: SqliteStore, reserve: Reserve): SqliteStore {
  /** Twice: the space may be used by a write in between. */
  async function removing<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (!isFull(error) || !reserve.release()) throw error;
      return work();
    }
  }

  async function adding<T>(work: () => Promise<T>): Promise<T> {
    await reserve.restore();
    return work();
  }

  return {
    get condition() {
      return store.condition;
    },
    onUnreadable: store.onUnreadable,
    accept: store.accept,
    check: store.check,
    get: store.get,
    list: store.list,
    entries: store.entries,
    put: (...put) => adding(() => store.put(...put)),
    write: (changes, options) =>
      options?.makesRoom ? removing(() => store.write(changes)) : adding(() => store.write(changes)),
    delete: (...key) => removing(() => store.delete(...key)),
    sweep: () => removing(store.sweep),
    version: store.version,
    close: store.close,
  };
}

function isFull(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOSPC';
}
