// The file of the records: its identity, its tables, and migrations from the schemas of older releases.
import { renameSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { faultOf, hasStoredBytes, readAcknowledged } from './acknowledged.ts';
import { makeDirectory, StateFault } from './data-directory.ts';
import { toError, toFailure } from './sqlite-error.ts';
import { RecordStoreBusy, RecordStoreDamaged } from './store.ts';

export const BUSY_TIMEOUT_MS = 5_000;

/** `Vene` in ASCII: identifies the file to `file` and other tools. */
const APPLICATION_ID = 0x56656e65;

/**
 * Each migrates from the schema numbered by its index to the next, in one transaction; released ones are immutable, and have a folder in
 * fixtures/releases. Files of the first release have no number, and only the table of records.
 */
const MIGRATIONS = [
  `
    CREATE TABLE IF NOT EXISTS records (
      collection TEXT NOT NULL,
      key TEXT NOT NULL,
      value BLOB NOT NULL,
      expires_at INTEGER,
      PRIMARY KEY (collection, key)
    ) STRICT;
    CREATE INDEX IF NOT EXISTS records_by_expiry ON records (expires_at) WHERE expires_at IS NOT NULL;
    CREATE TABLE store (
      only INTEGER PRIMARY KEY CHECK (only = 1),
      id TEXT NOT NULL,
      sequence INTEGER NOT NULL,
      fault TEXT
    ) STRICT;
    INSERT INTO store VALUES (1, lower(hex(randomblob(16))), 0, NULL);
    PRAGMA application_id = ${APPLICATION_ID};
  `,
];

/** Opens the file of the records, and migrates it to this release. Throws StateFault where it cannot be opened, or is something else. */
export function openDatabase(path: string): DatabaseSync {
  makeDirectory(dirname(path));
  try {
    keepLog(path);
    const database = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS });
    try {
      requireKnown(database);
      database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
      if (versionOf(database) < MIGRATIONS.length) migrate(database, dirname(path));
      checkWritable(database);
      return database;
    } catch (error) {
      database.close();
      throw error;
    }
  } catch (error) {
    throw new StateFault(path, error);
  }
}

/** Reads the whole file, and returns the first problem; undefined if there is none. */
export function quickCheck(database: DatabaseSync): string | undefined {
  try {
    const [verdict] = Object.values(database.prepare('PRAGMA quick_check(1)').get() ?? {});
    return verdict === 'ok' ? undefined : String(verdict);
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** Without the main file SQLite would delete the log, which may contain all that is left of the records. */
function keepLog(path: string): void {
  const log = `${path}-wal`;
  const isGone = (statSync(path, { throwIfNoEntry: false })?.size ?? 0) === 0;
  if (isGone && (statSync(log, { throwIfNoEntry: false })?.size ?? 0) > 0) renameSync(log, `${log}.kept`);
}

function requireKnown(database: DatabaseSync): void {
  const application = readPragma(database, 'application_id');
  const version = versionOf(database);
  const isOlder = application === 0 && version === 0 && (isEmpty(database) || hasTable(database, 'records'));
  if (application !== APPLICATION_ID && !isOlder) {
    throw new Error('it is a database of another program: choose another data directory with --data-dir');
  }
  if (version > MIGRATIONS.length) {
    throw new Error(
      `it has schema ${version}, of a newer Veneer, and this one knows schemas up to ${MIGRATIONS.length}: start the newer one again, or ` +
        'restore a backup that was made before it (veneer restore)',
    );
  }
}

function migrate(database: DatabaseSync, directory: string): void {
  // Another process may be migrating it as well.
  database.exec('BEGIN IMMEDIATE');
  try {
    const isNew = versionOf(database) === 0 && !hasRecords(database);
    for (const step of MIGRATIONS.slice(versionOf(database))) database.exec(step);
    database.exec(`PRAGMA user_version = ${MIGRATIONS.length}`);
    if (isNew && (readAcknowledged(directory) || hasStoredBytes(directory))) {
      database.prepare('UPDATE store SET fault = ?').run(faultOf('gone').kind);
    }
    database.exec('COMMIT');
  } catch (error) {
    if (database.isTransaction) database.exec('ROLLBACK');
    throw error;
  }
}

/** SQLite opens an unwritable file read-only without an error: checked at the start, to fail before the first push. */
function checkWritable(database: DatabaseSync): void {
  try {
    database.exec("BEGIN IMMEDIATE; DELETE FROM records WHERE collection = ''; ROLLBACK");
  } catch (error) {
    if (database.isTransaction) database.exec('ROLLBACK');
    const known = toError(toFailure(error));
    // A lock held by a writer shows that it is writable; and damage in places does not prevent serving the rest.
    if (!(known instanceof RecordStoreBusy || known instanceof RecordStoreDamaged)) throw error;
  }
}

function versionOf(database: DatabaseSync): number {
  return readPragma(database, 'user_version');
}

function readPragma(database: DatabaseSync, name: string): number {
  return Number(database.prepare(`PRAGMA ${name}`).get()?.[name]);
}

function hasRecords(database: DatabaseSync): boolean {
  return hasTable(database, 'records') && database.prepare('SELECT 1 FROM records LIMIT 1').get() !== undefined;
}

function hasTable(database: DatabaseSync, name: string): boolean {
  return database.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?").get(name) !== undefined;
}

function isEmpty(database: DatabaseSync): boolean {
  return database.prepare('SELECT 1 FROM sqlite_schema LIMIT 1').get() === undefined;
}
