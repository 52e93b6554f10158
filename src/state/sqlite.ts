// Records in one SQLite file: no server to run. Write-ahead log, synced at every commit, so that what was acknowledged stays.
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { RecordStore } from './store.ts';

export interface SqliteStoreOptions {
  /** The file; it and its directory are made if absent. */
  readonly path: string;
  readonly now?: () => Date;
}

const BUSY_TIMEOUT_MS = 5_000;

const SCHEMA = `
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = FULL;
  CREATE TABLE IF NOT EXISTS records (
    collection TEXT NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    expires_at INTEGER,
    PRIMARY KEY (collection, key)
  ) STRICT;
  CREATE INDEX IF NOT EXISTS records_by_expiry ON records (expires_at) WHERE expires_at IS NOT NULL;
`;

export function createSqliteStore({ path, now = () => new Date() }: SqliteStoreOptions): RecordStore {
  mkdirSync(dirname(path), { recursive: true });
  const database = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS });
  database.exec(SCHEMA);
  const statements = prepareStatements(database);
  return {
    async get(collection, key) {
      const value = statements.get.get(collection, key, now().getTime())?.value;
      return value instanceof Uint8Array ? value : undefined;
    },
    async put(collection, key, value, { expiresAt } = {}) {
      statements.put.run(collection, key, value, expiresAt?.getTime() ?? null);
    },
    async delete(collection, key) {
      return statements.delete.get(collection, key, now().getTime())?.is_live === 1;
    },
    async list(collection, { after = '', limit }) {
      return statements.list.all(collection, after, now().getTime(), limit).map(({ key }) => String(key));
    },
    async sweep() {
      return Number(statements.sweep.run(now().getTime()).changes);
    },
    async close() {
      if (database.isOpen) database.close();
    },
  };
}

function prepareStatements(database: DatabaseSync) {
  return {
    get: database.prepare(
      'SELECT value FROM records WHERE collection = ? AND key = ? AND (expires_at IS NULL OR expires_at > ?)',
    ),
    put: database.prepare('INSERT OR REPLACE INTO records (collection, key, value, expires_at) VALUES (?, ?, ?, ?)'),
    delete: database.prepare(
      'DELETE FROM records WHERE collection = ? AND key = ? RETURNING expires_at IS NULL OR expires_at > ? AS is_live',
    ),
    list: database.prepare(
      'SELECT key FROM records WHERE collection = ? AND key > ? AND (expires_at IS NULL OR expires_at > ?) ORDER BY key LIMIT ?',
    ),
    sweep: database.prepare('DELETE FROM records WHERE expires_at <= ?'),
  };
}
