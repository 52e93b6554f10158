// Records in one SQLite file: no server to run. Write-ahead log, synced at every commit, so that what was acknowledged stays.
import { dirname } from 'node:path';
import { backup, DatabaseSync, type SQLOutputValue, type StatementSync } from 'node:sqlite';
import { setImmediate } from 'node:timers/promises';
import {
  compare,
  createAcknowledged,
  faultOf,
  type Generation,
  isFaultKind,
  type RecordsCondition,
  readAcknowledged,
  WHOLE,
} from './acknowledged.ts';
import { StateFault } from './data-directory.ts';
import { compareKeys, endOfPrefix } from './keys.ts';
import { BUSY_TIMEOUT_MS, openDatabase } from './schema.ts';
import { type Change, type ListOptions, type RecordStore, RecordStoreFull } from './store.ts';

export interface SqliteStoreOptions {
  /** The file; it and its directory are made if absent. */
  readonly path: string;
  readonly now?: () => Date;
}

export interface SqliteStore extends RecordStore {
  /** As it was found when the store was opened, and until what is there is accepted. Unless it is whole, nothing may be deleted for want of a record. */
  readonly condition: RecordsCondition;
  /** Takes the records as they are from now on, in whatever condition they were. Durable when it resolves. */
  accept(): Promise<void>;
}

/** Throws StateFault where the file cannot be opened, or is something else. */
export function createSqliteStore({ path, now = () => new Date() }: SqliteStoreOptions): SqliteStore {
  const directory = dirname(path);
  const noted = readAcknowledged(directory);
  const database = openDatabase(path);
  const statements = prepareStatements(database);
  const acknowledged = createAcknowledged(directory);
  let condition = readCondition(database, noted);
  const time = () => now().getTime();

  /** All of it or nothing. What is noted beside the records stays as it is while it does not fit them: it is the evidence. */
  function commit<T>(work: () => T): T {
    const fault = condition.kind === 'whole' ? null : condition.kind;
    const { result, row } = refuseFullDisk(() =>
      inTransaction(database, () => {
        const before = countChanges();
        const result = work();
        return { result, row: countChanges() === before ? undefined : statements.count.get(fault) };
      }),
    );
    if (row && fault === null) acknowledged.note(toGeneration(row));
    return result;
  }

  function countChanges(): unknown {
    return statements.changes.get()?.count;
  }

  function apply(change: Change): void {
    const { collection, key } = change;
    if (change.kind === 'delete') statements.delete.get(collection, key, time());
    else statements.put.run(collection, key, change.value, change.expiresAt?.getTime() ?? null);
  }

  /** What has expired lies among the rest until it is swept: a listing that has to pass much of it gives others their turn in between. */
  async function select(statement: StatementSync, maxAtOnce: number, selection: Selection): Promise<readonly Row[]> {
    const found: Row[] = [];
    const { after: start = '' } = selection;
    let after = start;
    for (let step = selection.limit; found.length < selection.limit; step *= 4) {
      if (after !== start) await setImmediate();
      const count = Math.min(step, maxAtOnce);
      const rows = statement.all(time(), selection.collection, ...boundsOf({ ...selection, after }), count);
      found.push(...rows.filter(row => row.is_live === 1));
      if (rows.length < count) break;
      after = String(rows.at(-1)?.key);
    }
    return found.slice(0, selection.limit);
  }

  return {
    async get(collection, key) {
      const value = statements.get.get(collection, key, time())?.value;
      return value instanceof Uint8Array ? value : undefined;
    },
    async put(collection, key, value, options) {
      commit(() => apply({ kind: 'put', collection, key, value, ...options }));
    },
    async delete(collection, key) {
      return commit(() => statements.delete.get(collection, key, time())?.is_live === 1);
    },
    async write(changes) {
      commit(() => changes.forEach(apply));
    },
    async list(collection, options) {
      const rows = await select(statements.list, MAX_KEYS_AT_ONCE, { collection, ...options });
      return rows.map(({ key }) => String(key));
    },
    async entries(collection, options) {
      const rows = await select(statements.entries, MAX_ENTRIES_AT_ONCE, { collection, ...options });
      return rows.map(({ key, value }) => ({
        key: String(key),
        value: value instanceof Uint8Array ? value : new Uint8Array(),
      }));
    },
    async sweep() {
      let swept = 0;
      let workedMs = 0;
      for (let isMore = true; isMore && workedMs < MAX_SWEEP_MS && database.isOpen; await setImmediate()) {
        const begunAt = performance.now();
        const count = Number(commit(() => statements.sweep.run(time(), MAX_SWEPT_AT_ONCE).changes));
        workedMs += performance.now() - begunAt;
        swept += count;
        isMore = count === MAX_SWEPT_AT_ONCE;
      }
      return swept;
    },
    get condition() {
      return condition;
    },
    async accept() {
      const row = refuseFullDisk(() => inTransaction(database, () => statements.accept.get()));
      condition = WHOLE;
      acknowledged.note(toGeneration(row));
    },
    async close() {
      if (database.isOpen) database.close();
      acknowledged.close();
    },
  };
}

/** Records that were found in another condition than whole stay in it, whatever is written to them. */
function readCondition(database: DatabaseSync, noted: Generation | undefined): RecordsCondition {
  const row = database.prepare('SELECT id, sequence, fault FROM store').get();
  return isFaultKind(row?.fault) ? faultOf(row.fault) : compare(noted, toGeneration(row));
}

function toGeneration(row: Row | undefined): Generation {
  return { id: String(row?.id), sequence: Number(row?.sequence) };
}

/** More pages than there are: with a step for some of them each write of the service would make the copy begin anew. */
const ALL_PAGES = 2 ** 31 - 1;

/**
 * Copies the records of a service that may be running to a new file, as they are at one moment. Other copies, such as by `cp`, lack what is in
 * the write-ahead log. Throws StateFault for records that cannot be read or are damaged.
 */
export async function copyRecords(path: string, target: string): Promise<void> {
  try {
    const database = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS });
    try {
      await backup(database, target, { rate: ALL_PAGES });
    } finally {
      database.close();
    }
    checkWhole(target);
  } catch (error) {
    throw error instanceof StateFault ? error : new StateFault(path, error);
  }
}

function checkWhole(path: string): void {
  const database = new DatabaseSync(path);
  try {
    // The copy is one file: nobody has to know of a log beside it.
    database.exec('PRAGMA journal_mode = DELETE');
    const [row] = database.prepare('PRAGMA quick_check(1)').all();
    const [verdict] = Object.values(row ?? {});
    if (verdict !== 'ok') throw new Error(`it is damaged: ${verdict}`);
  } finally {
    database.close();
  }
}

const LIVE = '(expires_at IS NULL OR expires_at > ?)';
// One bound on each side: SQLite seeks to the first and stops at the other, however many records there are around them. What has expired is not
// left out, or one statement could read all of it to find one record.
const RANGE = 'FROM records WHERE collection = ? AND key >= ? AND key < ? AND key <> ? ORDER BY key LIMIT ?';

export const LIST_KEYS = `SELECT key, ${LIVE} AS is_live ${RANGE}`;

/** Statements stop everything else while they run. */
const MAX_KEYS_AT_ONCE = 1000;
const MAX_ENTRIES_AT_ONCE = 500;
const MAX_SWEPT_AT_ONCE = 200;
/** Of one sweep, in all. */
const MAX_SWEEP_MS = 400;

type Row = Readonly<Record<string, SQLOutputValue>>;

interface Selection extends ListOptions {
  readonly collection: string;
}

function prepareStatements(database: DatabaseSync) {
  return {
    get: database.prepare(`SELECT value FROM records WHERE collection = ? AND key = ? AND ${LIVE}`),
    put: database.prepare('INSERT OR REPLACE INTO records (collection, key, value, expires_at) VALUES (?, ?, ?, ?)'),
    delete: database.prepare(
      'DELETE FROM records WHERE collection = ? AND key = ? RETURNING expires_at IS NULL OR expires_at > ? AS is_live',
    ),
    list: database.prepare(LIST_KEYS),
    entries: database.prepare(`SELECT key, value, ${LIVE} AS is_live ${RANGE}`),
    changes: database.prepare('SELECT total_changes() AS count'),
    count: database.prepare('UPDATE store SET sequence = sequence + 1, fault = ? RETURNING id, sequence'),
    // Under another id: copies of what was before are other records from now on.
    accept: database.prepare(
      'UPDATE store SET id = lower(hex(randomblob(16))), sequence = sequence + 1, fault = NULL RETURNING id, sequence',
    ),
    sweep: database.prepare(
      'DELETE FROM records WHERE rowid IN (SELECT rowid FROM records WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)',
    ),
  };
}

/** SQLite sorts every blob after every text. */
const AFTER_ALL_TEXT = new Uint8Array();

/** The first key, the first one beyond the last, and one to leave out. */
function boundsOf({ prefix = '', after = '' }: ListOptions) {
  const start = compareKeys(prefix, after) > 0 ? prefix : after;
  return [start, endOfPrefix(prefix) ?? AFTER_ALL_TEXT, after] as const;
}

function inTransaction<T>(database: DatabaseSync, work: () => T): T {
  database.exec('BEGIN IMMEDIATE');
  try {
    const result = work();
    database.exec('COMMIT');
    return result;
  } catch (error) {
    // A full disk may have ended the transaction already.
    if (database.isTransaction) database.exec('ROLLBACK');
    throw error;
  }
}

const SQLITE_FULL = 13;

/** Throws RecordStoreFull where SQLite has no room left. */
export function refuseFullDisk<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof Error && 'errcode' in error && error.errcode === SQLITE_FULL) {
      throw new RecordStoreFull('the disk of the record store is full', { cause: error });
    }
    throw error;
  }
}
