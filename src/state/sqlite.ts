// Records in one SQLite file: no server to run. Write-ahead log, synced at every commit, so that acknowledged writes survive. A thread
// writes, and this one reads.
import { once } from 'node:events';
import { dirname } from 'node:path';
import { backup, DatabaseSync, type SQLOutputValue, type StatementSync } from 'node:sqlite';
import { setImmediate, setTimeout } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import {
  compare,
  faultOf,
  type Generation,
  isFaultKind,
  readAcknowledged,
  type ServiceStore,
  WHOLE,
} from './acknowledged.ts';
import { StateFault } from './data-directory.ts';
import { createProcessLocks } from './locks.ts';
import { BUSY_TIMEOUT_MS, openDatabase, quickCheck } from './schema.ts';
import { isBusy, toError, toFailure } from './sqlite-error.ts';
import {
  compareKeys,
  endOfPrefix,
  type ListOptions,
  type Locks,
  type RecordStore,
  RecordStoreDamaged,
} from './store.ts';
import type { Job } from './writer.ts';
import { createWrites } from './writes.ts';

export interface SqliteStore extends ServiceStore {
  /** Accepts the records as they are from now on, unless they are damaged. Durable when it resolves. */
  accept(): Promise<void>;
  /** After an unclean shutdown all records are read, and damage shows in the condition. Takes time proportional to the file. */
  check(): Promise<void>;
}

/** Throws StateFault where the file cannot be opened, or is something else. */
export function createSqliteStore({
  path,
  now = () => new Date(),
  busyMs = BUSY_MS,
  locks = createProcessLocks(),
  onUnreadable,
}: {
  /** The file; it and its directory are created if absent. */
  readonly path: string;
  readonly now?: () => Date;
  /** How long to wait for a lock of another program. */
  readonly busyMs?: number;
  /** Kept by all processes that write what is decided under them. Default: this is the only one, see lockDirectory. */
  readonly locks?: Locks | undefined;
  readonly onUnreadable?: RecordStore['onUnreadable'];
}): SqliteStore {
  const noted = readAcknowledged(dirname(path));
  const database = openDatabase(path);
  const statements = prepareStatements(database);
  let condition = readCondition(database, noted);
  const id = readId(database);
  let isChecked = !noted?.isOpen;
  let checker: Worker | undefined;
  // This connection reads: it sees what is durable, and no writer's lock blocks it.
  database.exec('PRAGMA query_only = 1; PRAGMA busy_timeout = 0');
  const writes = createWrites({
    ...{ path, busyMs },
    findFault: () => (condition.kind === 'whole' || condition.kind === 'damaged' ? undefined : condition.kind),
    isSound: () => isChecked && condition.kind === 'whole',
  });
  const loopBudget = createLoopBudget();
  const version = createVersion(database);
  const time = () => now().getTime();

  /** Throws RecordStoreBusy where others block readers for long. */
  async function read<T>(work: () => T): Promise<T> {
    for (const until = performance.now() + busyMs; ; await setTimeout(RETRY_MS)) {
      await loopBudget.begin();
      const begunAt = performance.now();
      try {
        return work();
      } catch (error) {
        if (!isBusy(toFailure(error)) || begunAt > until) throw noticed(toError(toFailure(error)), error);
      } finally {
        loopBudget.spend(performance.now() - begunAt);
      }
    }
  }

  async function write(job: Job): Promise<number> {
    try {
      return await writes.run(job).finally(version.forget);
    } catch (error) {
      throw noticed(error);
    }
  }

  /** Damage is not specific to one request. */
  function noticed(error: unknown, cause?: unknown): unknown {
    if (!(error instanceof RecordStoreDamaged)) return error;
    condition = faultOf('damaged');
    return new RecordStoreDamaged(`${path} is damaged (${error.message}): ${condition.remedy}`, { cause });
  }

  /** Expired records remain until a sweep removes them: a listing that skips many of them yields to other work. */
  async function select(statement: StatementSync, maxAtOnce: number, selection: Selection): Promise<readonly Row[]> {
    const found: Row[] = [];
    const { after: start = '' } = selection;
    let after = start;
    for (let step = selection.limit; found.length < selection.limit; step *= 4) {
      if (after !== start) await setImmediate();
      const count = Math.min(step, maxAtOnce);
      const bounds = boundsOf({ ...selection, after });
      const rows = await read(() => statement.all(time(), selection.collection, ...bounds, count));
      found.push(...rows.filter(row => row.is_live === 1));
      if (rows.length < count) break;
      after = String(rows.at(-1)?.key);
    }
    return found.slice(0, selection.limit);
  }

  return {
    onUnreadable,
    id,
    async readAll({ collection, key }, limit) {
      const rows = await read(() => statements.all.all(collection, key, limit));
      return rows.map(row => ({
        collection: String(row.collection),
        key: String(row.key),
        value: row.value instanceof Uint8Array ? row.value : new Uint8Array(),
        expiresAt: row.expires_at === null ? undefined : new Date(Number(row.expires_at)),
      }));
    },
    async get(collection, key) {
      const row = await read(() => statements.get.get(collection, key, time()));
      return row?.value instanceof Uint8Array ? row.value : undefined;
    },
    async put(collection, key, value, options) {
      await write({ kind: 'write', changes: [{ kind: 'put', collection, key, value, ...options }], nowMs: time() });
    },
    async delete(collection, key) {
      return (await write({ kind: 'delete', collection, key, nowMs: time() })) > 0;
    },
    async write(changes, { expected } = {}) {
      if (changes.length > 0 || expected) await write({ kind: 'write', changes, expected, nowMs: time() });
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
      // The time is read once, so that a clock that jumps meanwhile has no effect.
      const nowMs = time();
      let swept = 0;
      for (const until = performance.now() + MAX_SWEEP_MS; performance.now() < until && database.isOpen; ) {
        const count = await write({ kind: 'sweep', nowMs, limit: MAX_SWEPT_AT_ONCE });
        swept += count;
        if (count < MAX_SWEPT_AT_ONCE) break;
      }
      return swept;
    },
    version: version.read,
    locks,
    get condition() {
      return condition;
    },
    async accept() {
      await write({ kind: 'accept' });
      if (condition.kind !== 'damaged') condition = WHOLE;
    },
    async check() {
      if (isChecked) return;
      checker = new Worker(new URL('./checker.ts', import.meta.url), {
        workerData: { path },
        resourceLimits: { maxOldGenerationSizeMb: CHECKER_HEAP_MIB },
      });
      checker.unref();
      const [verdict] = await Promise.race([once(checker, 'message'), once(checker, 'exit')]).catch(() => ['']);
      if (typeof verdict === 'string') condition = faultOf('damaged');
      else if (verdict === undefined) isChecked = true;
    },
    async close() {
      await checker?.terminate();
      if (database.isOpen) database.close();
      await writes.close();
    },
  };
}

const BUSY_MS = 5_000;
/** SQLite allocates outside of the heap: the thread needs almost none. */
const CHECKER_HEAP_MIB = 64;
/** The interval between attempts of a blocked reader. */
const RETRY_MS = 25;
/** Per event loop iteration, for all readers. */
const MAX_BLOCKING_MS = 5;

/** Reads run on the main thread: long ones yield to other work, however many calls they take. */
function createLoopBudget() {
  let spentMs = 0;
  let next: Promise<void> | undefined;
  return {
    async begin(): Promise<void> {
      while (spentMs > MAX_BLOCKING_MS) await next;
    },
    spend(ms: number): void {
      spentMs += ms;
      next ??= setImmediate().then(() => {
        spentMs = 0;
        next = undefined;
      });
    },
  };
}

/**
 * SQLite counts the commits of other connections, which includes all writes, as this one only reads. Queried once per event loop iteration.
 */
function createVersion(database: DatabaseSync) {
  const statement = database.prepare('PRAGMA data_version');
  let known: number | undefined;
  const forget = () => {
    known = undefined;
  };
  return {
    /** Call it when a write was acknowledged. */
    forget,
    read(): number | undefined {
      if (known !== undefined || !database.isOpen) return known;
      try {
        known = Number(statement.get()?.data_version);
      } catch (error) {
        if (isBusy(toFailure(error))) return undefined;
        throw error;
      }
      globalThis.setImmediate(forget);
      return known;
    },
  };
}

/** Records that were found in another condition than whole stay in it, whatever is written to them. */
function readCondition(database: DatabaseSync, noted: Generation | undefined): ServiceStore['condition'] {
  try {
    const row = database.prepare('SELECT id, sequence, fault FROM store').get();
    const generation = { id: String(row?.id), sequence: Number(row?.sequence) };
    return isFaultKind(row?.fault) ? faultOf(row.fault) : compare(noted, generation);
  } catch (error) {
    if (toError(toFailure(error)) instanceof RecordStoreDamaged) return faultOf('damaged');
    throw error;
  }
}

/** Empty where it cannot be read. */
function readId(database: DatabaseSync): string {
  try {
    return String(database.prepare('SELECT id FROM store').get()?.id ?? '');
  } catch {
    return '';
  }
}

/** More pages than there are: if copied in steps, each write of the service would restart the copy. */
const ALL_PAGES = 2 ** 31 - 1;

/**
 * Copies the records of a possibly running service to a new file, as of one moment. Other copies, such as by `cp`, lack the write-ahead
 * log. Throws StateFault for records that are unreadable or damaged.
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
    // The copy is a single file, without a log beside it.
    database.exec('PRAGMA journal_mode = DELETE');
    const verdict = quickCheck(database);
    if (verdict !== undefined) throw new Error(`it is damaged: ${verdict}`);
  } finally {
    database.close();
  }
}

const LIVE = '(expires_at IS NULL OR expires_at > ?)';
// One bound on each side: SQLite seeks to the first and stops at the other, however many records surround them. Expired ones are not
// filtered out, or one statement could read all of it to find one record.
const RANGE = 'FROM records WHERE collection = ? AND key >= ? AND key < ? AND key <> ? ORDER BY key LIMIT ?';

export const LIST_KEYS = `SELECT key, ${LIVE} AS is_live ${RANGE}`;

/** Statements block everything else while they run. */
const MAX_KEYS_AT_ONCE = 1000;
const MAX_ENTRIES_AT_ONCE = 500;
const MAX_SWEPT_AT_ONCE = 200;
/** In total for one sweep. */
const MAX_SWEEP_MS = 400;

type Row = Readonly<Record<string, SQLOutputValue>>;

interface Selection extends ListOptions {
  readonly collection: string;
}

function prepareStatements(database: DatabaseSync) {
  return {
    all: database.prepare(
      'SELECT collection, key, value, expires_at FROM records WHERE (collection, key) > (?, ?) ORDER BY collection, key LIMIT ?',
    ),
    get: database.prepare(`SELECT value FROM records WHERE collection = ? AND key = ? AND ${LIVE}`),
    list: database.prepare(LIST_KEYS),
    entries: database.prepare(`SELECT key, value, ${LIVE} AS is_live ${RANGE}`),
  };
}

/** SQLite sorts every blob after every text. */
const AFTER_ALL_TEXT = new Uint8Array();

/** The first key, the exclusive last one, and one to skip. */
function boundsOf({ prefix = '', after = '' }: ListOptions) {
  const start = compareKeys(prefix, after) > 0 ? prefix : after;
  return [start, endOfPrefix(prefix) ?? AFTER_ALL_TEXT, after] as const;
}
