// Reserved space for deletions on a full disk: a file that is removed when records cannot be deleted or opened for lack of space, and
// rewritten as soon as possible.
import { randomBytes } from 'node:crypto';
import { existsSync, rmSync, statfsSync } from 'node:fs';
import { appendFile, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { makeDirectory } from './data-directory.ts';
import type { SqliteStore } from './sqlite.ts';

export interface Reserve {
  /** Frees the space; returns false if there was none to free. */
  release(): boolean;
  /** Reserves the space again, or as much as is available. Never rejects. */
  restore(): Promise<void>;
  /** For the operator: that the disk is full, if it is. */
  findNote(): Promise<string | undefined>;
  /** Reserves the space for the next start. */
  close(): Promise<void>;
}

/** The size at which SQLite's write-ahead log wraps around, with its index: no number of deletions takes more. */
const RESERVE_BYTES = 4 * 1024 * 1024 + 256 * 1024;
/** A disk with less than this counts as full. */
const FULL_BYTES = 1024 * 1024;
/** Deletions come in bulk, and must not free and reserve the space each time. */
const RESTORE_AFTER_MS = 1000;

const FULL = 'the disk of the data directory is full: pulls continue, nothing new is stored, and deletions free space';

const FILE = 'reserve';

/**
 * In the data directory, which is created if absent. On a full disk its space is free when this returns, until `restore`. Throws
 * StateFault.
 */
export function createReserve(directory: string): Reserve {
  makeDirectory(directory);
  const path = join(directory, FILE);
  let restoring: Promise<void> = Promise.resolve();
  let timer: NodeJS.Timeout | undefined;
  // As far as this process knows, to avoid a check on every change.
  let isWhole = false;

  async function fill(): Promise<void> {
    const missing = RESERVE_BYTES - ((await stat(path, { throwIfNoEntry: false }))?.size ?? 0);
    const bytes = Math.max(0, Math.min(missing, freeOf(await statfs(directory)) - 4096));
    // Random, since a file system may not store zeros.
    if (bytes > 0) await appendFile(path, await promisify(randomBytes)(bytes), { mode: 0o600 });
    isWhole = bytes >= missing;
  }

  function restore(): Promise<void> {
    clearTimeout(timer);
    if (isWhole) return restoring;
    // Space that others took first is reserved another time.
    restoring = restoring.then(fill).catch(() => {});
    return restoring;
  }

  function release(): boolean {
    if (!existsSync(path)) return false;
    rmSync(path, { force: true });
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

/** File systems without a fixed size report 0. */
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

/** The same store, whose deletions work on a full disk. Additions do not use the reserve. */
export function createReservedStore(store: SqliteStore, reserve: Reserve): SqliteStore {
  /** Retried twice: a concurrent write may take the space. */
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
    id: store.id,
    readAll: store.readAll,
    onUnreadable: store.onUnreadable,
    accept: store.accept,
    check: store.check,
    get: store.get,
    list: store.list,
    entries: store.entries,
    put: (...put) => adding(() => store.put(...put)),
    write: (changes, options) =>
      options?.makesRoom ? removing(() => store.write(changes, options)) : adding(() => store.write(changes, options)),
    delete: (...key) => removing(() => store.delete(...key)),
    sweep: () => removing(store.sweep),
    version: store.version,
    locks: store.locks,
    close: store.close,
  };
}

function isFull(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOSPC';
}
