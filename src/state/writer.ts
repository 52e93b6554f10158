// The thread that writes records: only it waits for the disk on commit. All jobs of a message are one transaction.
import { statSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync, type SQLOutputValue } from 'node:sqlite';
import { pathToFileURL } from 'node:url';
import { parentPort, workerData } from 'node:worker_threads';
import { createAcknowledged, type RecordsFault } from './acknowledged.ts';
import { type Failure, isBusy, toFailure } from './sqlite-error.ts';
import { type Change, type Expectation, RecordConflict } from './store.ts';

/** The arguments of the thread. */
export interface WriterOptions {
  readonly path: string;
  /** How long to wait for a lock of another program. */
  readonly busyMs: number;
  /** The fault stored with the records while they are not whole: then nothing is noted beside them, as that is the evidence. */
  readonly fault: RecordsFault['kind'] | undefined;
}

export type Job =
  | {
      readonly kind: 'write';
      readonly changes: readonly Change[];
      readonly expected?: readonly Expectation[] | undefined;
      readonly nowMs: number;
    }
  | { readonly kind: 'delete'; readonly collection: string; readonly key: string; readonly nowMs: number }
  | { readonly kind: 'sweep'; readonly nowMs: number; readonly limit: number }
  | { readonly kind: 'accept' };

/** For a deletion whether the record was live, for a sweep how many were removed; otherwise nothing. */
export type Answer = { readonly count: number } | { readonly failure: Failure };

/** Records found sound may be marked whole, too. */
export type Message = { readonly jobs: readonly Job[] } | { readonly close: { readonly isSound: boolean } };

const { path, busyMs, fault: found } = readOptions();
// Not created where absent: records removed under the service must not be replaced by new ones.
const database = new DatabaseSync(`${pathToFileURL(path).href}?mode=rw`, { timeout: busyMs });
database.exec('PRAGMA synchronous = FULL');
const file = findFile();
const acknowledged = createAcknowledged(dirname(path));
const statements = {
  put: database.prepare('INSERT OR REPLACE INTO records (collection, key, value, expires_at) VALUES (?, ?, ?, ?)'),
  delete: database.prepare(
    'DELETE FROM records WHERE collection = ? AND key = ? RETURNING expires_at IS NULL OR expires_at > ? AS is_live',
  ),
  get: database.prepare(
    'SELECT value FROM records WHERE collection = ? AND key = ? AND (expires_at IS NULL OR expires_at > ?)',
  ),
  sweep: database.prepare(
    'DELETE FROM records WHERE rowid IN (SELECT rowid FROM records WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)',
  ),
  changes: database.prepare('SELECT total_changes() AS count'),
  count: database.prepare('UPDATE store SET sequence = sequence + 1, fault = ? RETURNING id, sequence'),
  // With a new id: copies of earlier records no longer match.
  accept: database.prepare('UPDATE store SET id = lower(hex(randomblob(16)))'),
};
let fault = found;
let last: { readonly id: string; readonly sequence: number } | undefined;

parentPort?.on('message', (message: Message) => {
  if ('jobs' in message) parentPort?.postMessage(answer(message.jobs));
  else close(message.close.isSound);
});

function close(isSound: boolean): void {
  database.close();
  if (last && isSound) acknowledged.note({ ...last, isOpen: false });
  acknowledged.close();
  parentPort?.close();
}

function answer(jobs: readonly Job[]): readonly Answer[] {
  try {
    return commit(jobs);
  } catch (error) {
    const failure = toFailure(error);
    // A lock or disk failure affects all jobs; otherwise each is retried on its own, and only the failing one fails.
    return jobs.length === 1 || isBusy(failure) ? jobs.map(() => ({ failure })) : jobs.flatMap(job => answer([job]));
  }
}

/** Writes to an unlinked file are lost, even when synced. */
function requireInPlace(): void {
  if (findFile() === file) return;
  throw new Error(`${path} was removed or replaced while in use: put it back, or restart Veneer`);
}

function findFile(): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.ino;
}

/** Throws where nothing was written. */
function commit(jobs: readonly Job[]): readonly Answer[] {
  requireInPlace();
  database.exec('BEGIN IMMEDIATE');
  try {
    const before = countChanges();
    const answers = jobs.map(attempt);
    const isAccepted = jobs.some(({ kind }, at) => kind === 'accept' && 'count' in (answers[at] ?? {}));
    const next = isAccepted ? undefined : fault;
    const row = countChanges() === before ? undefined : statements.count.get(next ?? null);
    database.exec('COMMIT');
    fault = next;
    if (row && !fault) note(row);
    return answers;
  } catch (error) {
    // A full disk may have rolled back the transaction already.
    if (database.isTransaction) database.exec('ROLLBACK');
    throw error;
  }
}

/** One of many in a transaction: a failure rolls back only that job, unless the whole transaction failed. */
function attempt(job: Job): Answer {
  database.exec('SAVEPOINT job');
  try {
    const count = run(job);
    database.exec('RELEASE job');
    return { count };
  } catch (error) {
    if (!database.isTransaction) throw error;
    database.exec('ROLLBACK TO job; RELEASE job');
    return { failure: toFailure(error) };
  }
}

function run(job: Job): number {
  if (job.kind === 'write') {
    for (const each of job.expected ?? []) requireAsExpected(each, job.nowMs);
    for (const change of job.changes) apply(change, job.nowMs);
    return 0;
  }
  if (job.kind === 'delete') return statements.delete.get(job.collection, job.key, job.nowMs)?.is_live === 1 ? 1 : 0;
  if (job.kind === 'sweep') return Number(statements.sweep.run(job.nowMs, job.limit).changes);
  statements.accept.run();
  return 0;
}

/** Throws RecordConflict. */
function requireAsExpected({ collection, key, value }: Expectation, nowMs: number): void {
  const found = statements.get.get(collection, key, nowMs)?.value;
  const isEqual = found instanceof Uint8Array ? value && Buffer.compare(found, value) === 0 : !value;
  if (!isEqual) throw new RecordConflict({ collection, key });
}

function apply(change: Change, nowMs: number): void {
  const { collection, key } = change;
  if (change.kind === 'delete') {
    statements.delete.get(collection, key, 0);
    return;
  }
  const { value, expiresAt, ttlMs } = change;
  statements.put.run(collection, key, value, ttlMs === undefined ? (expiresAt?.getTime() ?? null) : nowMs + ttlMs);
}

function countChanges(): unknown {
  return statements.changes.get()?.count;
}

function note({ id, sequence }: Readonly<Record<string, SQLOutputValue>>): void {
  last = { id: String(id), sequence: Number(sequence) };
  acknowledged.note({ ...last, isOpen: true });
}

function readOptions(): WriterOptions {
  return workerData;
}
