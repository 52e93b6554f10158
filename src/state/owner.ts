// One process at a time owns a data directory: what keeps its files and records in step is in memory. The lock is one of SQLite's on a file
// of its own, which the kernel releases with the process, however it ends: nothing is left that could be stale.
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
    database.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    database.close();
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
    return new DatabaseSync(join(directory, 'owner.db'), { timeout: 0 });
  } catch (error) {
    throw new StateFault(directory, error);
  }
}

const SQLITE_BUSY = 5;

function isBusy(error: unknown): boolean {
  return error instanceof Error && 'errcode' in error && error.errcode === SQLITE_BUSY;
}
