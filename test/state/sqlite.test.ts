// The SQLite store keeps the contract, and its records outlive the process.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createSqliteStore, LIST_KEYS } from '../../src/state/sqlite.ts';
import { toError, toFailure } from '../../src/state/sqlite-error.ts';
import { type Change, RecordStoreFull } from '../../src/state/store.ts';
import { recordStoreContract } from '../contract/record-store.ts';
import { countTurns } from '../support/turns.ts';

describe('contract', () => {
  recordStoreContract(async ({ now }) => createSqliteStore({ path: temporaryPath(), now }));
});

test('finds its records after a restart', async () => {
  const path = temporaryPath();
  const before = createSqliteStore({ path });
  await before.put('tokens', 'a', Uint8Array.of(1));
  await before.close();
  const after = createSqliteStore({ path });
  expect([...((await after.get('tokens', 'a')) ?? [])]).toEqual([1]);
  await after.close();
});

test('has put a record on disk when put resolves: a second connection sees it', async () => {
  const path = temporaryPath();
  const writer = createSqliteStore({ path });
  const reader = createSqliteStore({ path });
  await writer.put('tokens', 'a', Uint8Array.of(1));
  expect(await reader.get('tokens', 'a')).toHaveLength(1);
  await writer.close();
  await reader.close();
});

const put = (key: string, value: Uint8Array): Change => ({ kind: 'put', collection: 'tags', key, value });

test('writes all changes or none', async () => {
  const path = temporaryPath();
  const store = createSqliteStore({ path });
  await store.put('tags', 'kept', Uint8Array.of(1));
  refuseKey(path, 'refused');
  // After others that SQLite took.
  const refused = put('refused', Uint8Array.of(4));
  await expect(
    store.write([{ kind: 'delete', collection: 'tags', key: 'kept' }, put('b', Uint8Array.of(2)), refused]),
  ).rejects.toThrow('not this one');
  expect(await store.list('tags', { limit: 10 })).toEqual(['kept']);
  await store.write([put('d', Uint8Array.of(3))]);
  expect(await store.list('tags', { limit: 10 })).toEqual(['d', 'kept']);
  await store.close();
});

/** From now on SQLite itself refuses a record of this key. */
function refuseKey(path: string, key: string): void {
  const database = new DatabaseSync(path);
  database.exec(
    `CREATE TRIGGER refusing BEFORE INSERT ON records WHEN NEW.key = '${key}' BEGIN SELECT RAISE(ABORT, 'not this one'); END`,
  );
  database.close();
}

test('a second connection sees a write of several changes at once', async () => {
  const path = temporaryPath();
  const writer = createSqliteStore({ path });
  const reader = createSqliteStore({ path });
  await writer.write([put('a', Uint8Array.of(1)), put('b', Uint8Array.of(2))]);
  expect(await reader.list('tags', { limit: 10 })).toEqual(['a', 'b']);
  await writer.close();
  await reader.close();
});

test('seeks to a prefix: records around it are not looked at', async () => {
  const path = temporaryPath();
  await createSqliteStore({ path }).close();
  const database = new DatabaseSync(path);
  const plan = database.prepare(`EXPLAIN QUERY PLAN ${LIST_KEYS}`).all(0, 'tags', 'a/b:', 'a/b;', '', 1);
  expect(plan.map(({ detail }) => detail)).toEqual([
    'SEARCH records USING INDEX sqlite_autoindex_records_1 (collection=? AND key>? AND key<?)',
  ]);
  database.close();
});

test('says in the words of the file system that the disk is full', () => {
  const database = new DatabaseSync(':memory:');
  database.exec('PRAGMA max_page_count = 2; CREATE TABLE t (v BLOB)');
  let said: unknown;
  try {
    database.prepare('INSERT INTO t VALUES (?)').run(new Uint8Array(100_000));
  } catch (error) {
    said = toError(toFailure(error));
  }
  expect(said).toBeInstanceOf(RecordStoreFull);
  expect(said).toMatchObject({ code: 'ENOSPC' });
  database.close();
});

/** In a directory that is not there yet. */
function temporaryPath(): string {
  const directory = mkdtempSync(join(tmpdir(), 'veneer-state-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  return join(directory, 'data', 'state.db');
}

function fillExpired(path: string, count: number): void {
  const database = new DatabaseSync(path);
  const insert = database.prepare('INSERT INTO records VALUES (?, ?, ?, ?)');
  database.exec('BEGIN');
  for (let at = 0; at < count; at++) insert.run('token', `k${at}`, new Uint8Array(100), 1);
  database.exec('COMMIT');
  database.close();
}

test('gives others their turn while it sweeps, and leaves the rest of much for the next sweep', async () => {
  const path = temporaryPath();
  const store = createSqliteStore({ path });
  await store.put('token', 'live', Uint8Array.of(1));
  fillExpired(path, 20_000);
  let swept = 0;
  for (;;) {
    const { result, turns } = await countTurns(() => store.sweep());
    expect(turns).toBeGreaterThanOrEqual(Math.floor(result / 200));
    if (result === 0) break;
    swept += result;
  }
  expect(swept).toBe(20_000);
  expect(await store.list('token', { limit: 10 })).toEqual(['live']);
  await store.close();
});

test('is closed in the middle of a sweep', async () => {
  const path = temporaryPath();
  const store = createSqliteStore({ path });
  fillExpired(path, 2_000);
  const sweep = store.sweep();
  await store.close();
  expect(await sweep).toBeLessThan(2_000);
});

test('finds one record behind many that have expired, and gives others their turn meanwhile', async () => {
  const path = temporaryPath();
  const store = createSqliteStore({ path });
  fillExpired(path, 20_000);
  await store.put('token', 'z', Uint8Array.of(7));
  for (const list of [store.list, store.entries]) {
    const { result, turns } = await countTurns<readonly unknown[]>(() => list('token', { limit: 1 }));
    expect(result).toHaveLength(1);
    expect(turns).toBeGreaterThanOrEqual(20);
  }
  expect(await store.entries('token', { limit: 5 })).toEqual([{ key: 'z', value: Uint8Array.of(7) }]);
  await store.close();
});
