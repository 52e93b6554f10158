// One process at a time owns a data directory: what keeps its files and records in step is in memory. The lock is one of SQLite's on a file
// of its own, which the kernel releases with the process, however it ends: nothing is left that could be stale. Whoever removes that file does not
// let a second process in: under a new one nobody owns the directory before the records themselves are found to be free.
import { existsSync, statSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { makeDirectory, StateFault } from './data-directory.ts';

/** Held until it is released, or the process ends. Whoever forgets this object gives the directory up. */
export interface DirectoryOwner {
  release(): void;
}

/** Another process owns the directory, or this one does already. */
export class DirectoryTaken extends Error {
  override readonly name = 'DirectoryTaken';
  readonly directory: string;

  constructor(directory: string, options?: ErrorOptions) {
    super(`another Veneer process is using ${directory}: stop it first, or name another data directory`, options);
    this.directory = directory;
  }
}

/** Makes the directory where it is absent, for this user alone. Throws DirectoryTaken or StateFault. */
export function ownDirectory(directory: string): DirectoryOwner {
  const database = openLock(directory);
  try {
    // A journal is a file, for which a full disk has no room.
    database.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
    requireFree(directory);
  } catch (error) {
    database.close();
    if (error instanceof DirectoryTaken) throw error;
    throw isBusy(error) ? new DirectoryTaken(directory, { cause: error }) : new StateFault(directory, error);
  }
  return {
    release() {
      if (database.isOpen) database.close();
    },
  };
}

function openLock(directory: string): DatabaseSync {
  makeDirectory(directory);
  try {
    return new DatabaseSync(join(directory, LOCK), { timeout: 0 });
  } catch (error) {
    throw new StateFault(directory, error);
  }
}

const LOCK = 'owner.db';
const RECORDS = 'records.db';
/** Longer than a command such as `veneer token` has them open. */
const PROBE_MS = 3_000;

/** The lock that an owner has held carries its own number as its time of change, which no copy and no new file has. Throws DirectoryTaken. */
function requireFree(directory: string): void {
  const lock = join(directory, LOCK);
  const { ino, mtimeMs } = statSync(lock);
  const mark = ino % 2 ** 31;
  if (mtimeMs === mark * 1000) return;
  if (existsSync(join(directory, RECORDS)) && isOpenElsewhere(join(directory, RECORDS))) {
    throw new DirectoryTaken(directory, { cause: new Error(`${RECORDS} is open, and ${LOCK} is new`) });
  }
  utimesSync(lock, mark, mark);
}

/** Whoever has opened a write-ahead log keeps others from having the file alone. What cannot be opened is told by whoever needs it. */
function isOpenElsewhere(path: string): boolean {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(path, { timeout: PROBE_MS });
    database.exec('PRAGMA locking_mode = EXCLUSIVE; SELECT count(*) FROM sqlite_schema');
    return false;
  } catch (error) {
    return isBusy(error);
  } finally {
    database?.close();
  }
}

const SQLITE_BUSY = 5;

function isBusy(error: unknown): boolean {
  return error instanceof Error && 'errcode' in error && error.errcode === SQLITE_BUSY;
}
