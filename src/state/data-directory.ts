// The data directory: its creation and lock, error messages for when it cannot be used, and detection of a crash of the previous process.
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

/** For the operator: which path cannot be used, why, and what would help. */
export class StateFault extends Error {
  override readonly name = 'StateFault';

  constructor(path: string, cause: unknown) {
    super(`cannot use ${path}: ${explain(path, cause)}`, { cause });
  }
}

/** Creates the directory, with its parents, for this user alone. Throws StateFault unless it can be written to. */
export function makeDirectory(directory: string): void {
  try {
    // Not with `recursive`: below /proc, where nothing can be created, Node would retry for ever.
    for (const missing of missingOf(resolve(directory))) mkdirSync(missing, { mode: 0o700 });
    if (!statSync(directory).isDirectory()) throw new Error('it is a file; expected a directory');
    accessSync(directory, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    throw new StateFault(directory, error);
  }
}

/** The missing parts of a path, outermost first. */
function missingOf(path: string): readonly string[] {
  return existsSync(path) ? [] : [...missingOf(dirname(path)), path];
}

/** Error codes of the system, and of SQLite, which opens an unwritable file read-only. */
const DENIED: readonly unknown[] = ['EACCES', 'EPERM', 8, 14];

/** Error codes of SQLite for a file that is not a database, or no longer one. */
const DAMAGED: readonly unknown[] = [11, 26];
const FULL: readonly unknown[] = ['ENOSPC', 'EDQUOT', 13, 4874];

function explain(path: string, cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause);
  const code = 'errcode' in cause ? cause.errcode : 'code' in cause ? cause.code : undefined;
  if (DAMAGED.includes(code)) {
    return `it is damaged, or belongs to another program (${cause.message}): move it away, with its -wal, and restore a backup (veneer restore), or run \`veneer repair\` to rebuild it from the content`;
  }
  if (FULL.includes(code)) return `the disk is full (${cause.message}): free at least a megabyte`;
  if (!DENIED.includes(code)) return cause.message;
  const user = process.geteuid?.();
  const whose = user === undefined ? 'this user' : `the user ${user}`;
  const remedy = user === undefined ? 'give it to that user' : `give it to that user (chown -R ${user} ${path})`;
  return `${whose} may not write to it (${cause.message}): ${remedy}, or name another directory with --data-dir`;
}

/**
 * One process at a time uses a data directory: the state that keeps its files and records consistent is in memory. Held until it is
 * released, the process ends, or this object is garbage-collected.
 * It is a SQLite lock on a separate file, which the kernel releases with the process, however that ends: nothing can become stale. Removing
 * the file does not let a second process in: with a new file, the records themselves must be unlocked as well.
 */
export interface DirectoryLock {
  release(): void;
}

/** Another process holds the lock, or this one does already. */
export class DirectoryLocked extends Error {
  override readonly name = 'DirectoryLocked';
  readonly directory: string;

  constructor(directory: string, options?: ErrorOptions) {
    super(`another Veneer process is using ${directory}: stop it first, or name another data directory`, options);
    this.directory = directory;
  }
}

/** Creates the directory where it is absent, for this user alone. Throws DirectoryLocked or StateFault. */
export function lockDirectory(directory: string): DirectoryLock {
  const database = openLock(directory);
  try {
    // A journal is a file, for which a full disk has no room.
    database.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
    requireFree(directory);
    requireLeft(directory);
  } catch (error) {
    database.close();
    if (error instanceof DirectoryLocked) throw error;
    throw isLockBusy(error) ? new DirectoryLocked(directory, { cause: error }) : new StateFault(directory, error);
  }
  return {
    release() {
      if (database.isOpen) database.close();
    },
  };
}

/**
 * For a process that works in the directory on behalf of the one that has locked it. It may outlive that by a moment, during which the directory
 * cannot be locked.
 */
export function joinDirectory(directory: string): DirectoryLock {
  const database = new DatabaseSync(join(directory, WORKERS), { timeout: PROBE_MS });
  // A transaction that has read holds a lock that others may have, too.
  database.exec('PRAGMA journal_mode = MEMORY; BEGIN; SELECT count(*) FROM sqlite_schema');
  return {
    release() {
      if (database.isOpen) database.close();
    },
  };
}

/** The same as `lockDirectory`; undefined while another process has it. Throws StateFault. */
export function tryLockDirectory(directory: string): DirectoryLock | undefined {
  try {
    return lockDirectory(directory);
  } catch (error) {
    if (error instanceof DirectoryLocked) return undefined;
    throw error;
  }
}

/** Whether a service has worked in the directory: its records are in it, or in a database that its content belongs to. */
export function isDataDirectory(directory: string): boolean {
  return ['records.db', 'acknowledged.json'].some(name => existsSync(join(directory, name)));
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
const WORKERS = 'workers.db';
const RECORDS = 'records.db';
/** Longer than a command such as `veneer token` keeps them open. */
const PROBE_MS = 3_000;

/** A lock file that was once locked has its inode as its mtime, unlike any copy or new file. Throws DirectoryLocked. */
function requireFree(directory: string): void {
  const lock = join(directory, LOCK);
  const { ino, mtimeMs } = statSync(lock);
  const mark = ino % 2 ** 31;
  if (mtimeMs === mark * 1000) return;
  if (existsSync(join(directory, RECORDS)) && isOpenElsewhere(join(directory, RECORDS))) {
    throw new DirectoryLocked(directory, { cause: new Error(`${RECORDS} is open, and ${LOCK} is new`) });
  }
  utimesSync(lock, mark, mark);
}

/** Throws DirectoryLocked while processes of an earlier owner work in the directory: without it they end by themselves. */
function requireLeft(directory: string): void {
  const path = join(directory, WORKERS);
  if (!existsSync(path)) return;
  const database = new DatabaseSync(path, { timeout: PROBE_MS });
  try {
    database.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE; ROLLBACK');
  } finally {
    database.close();
  }
}

/**
 * A process that has a write-ahead log open prevents others from locking the file. A file that cannot be opened is reported by the code
 * that needs it.
 */
function isOpenElsewhere(path: string): boolean {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(path, { timeout: PROBE_MS });
    database.exec('PRAGMA locking_mode = EXCLUSIVE; SELECT count(*) FROM sqlite_schema');
    return false;
  } catch (error) {
    return isLockBusy(error);
  } finally {
    database?.close();
  }
}

const SQLITE_BUSY = 5;

function isLockBusy(error: unknown): boolean {
  return error instanceof Error && 'errcode' in error && error.errcode === SQLITE_BUSY;
}

/** Node's report in the data directory, written when V8 gives up, such as when it is out of memory. */
export const FATAL_REPORT = 'fatal-report.json';
const SAVED_REPORT = 'fatal-report.last.json';
const MARK = 'ended-by-itself';

/**
 * To be called when the process ends by an uncaught error: a process that was killed, or lost with the machine, leaves no mark. Never
 * throws.
 */
export function markCrash(directory: string): void {
  try {
    writeFileSync(join(directory, MARK), '', { mode: 0o600 });
  } catch {
    // On a full disk: then it counts as killed.
  }
}

/** Whether the previous process crashed by its own fault. Removes the mark; the last report is renamed and left for the operator. */
export function takeCrashMark(directory: string): boolean {
  const [mark, report] = [join(directory, MARK), join(directory, FATAL_REPORT)];
  const hasReport = existsSync(report);
  const hasCrashed = hasReport || existsSync(mark);
  if (hasReport) renameSync(report, join(directory, SAVED_REPORT));
  rmSync(mark, { force: true });
  return hasCrashed;
}
