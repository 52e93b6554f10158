// The records of a running app, looked at and changed behind its back.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { TestApp } from '../support/app.ts';

/** Changes each record of a collection; one that becomes undefined is deleted. */
export function editRecords(
  { directory }: TestApp,
  collection: string,
  edit: (value: Buffer) => Uint8Array | undefined,
): void {
  const database = new DatabaseSync(join(directory, 'data/records.db'), { timeout: 5_000 });
  const rows = database.prepare('SELECT key, value FROM records WHERE collection = ?').all(collection);
  if (rows.length === 0) throw new Error(`no records of ${collection}`);
  for (const { key, value } of rows) {
    const edited = value instanceof Uint8Array ? edit(Buffer.from(value)) : undefined;
    database.prepare('DELETE FROM records WHERE collection = ? AND key = ?').run(collection, String(key));
    const insert = database.prepare('INSERT INTO records (collection, key, value) VALUES (?, ?, ?)');
    if (edited) insert.run(collection, String(key), edited);
  }
  database.close();
}

/** How many there are in a collection. */
export function countRecords({ directory }: TestApp, collection: string): number {
  const database = new DatabaseSync(join(directory, 'data/records.db'), { timeout: 5_000 });
  const row = database.prepare('SELECT count(*) AS count FROM records WHERE collection = ?').get(collection);
  database.close();
  return Number(row?.count);
}

/** All bytes of the files that hold the records. */
export async function readRecords({ directory }: TestApp): Promise<Buffer> {
  const files = ['records.db', 'records.db-wal'].map(file => readFile(join(directory, 'data', file)));
  return Buffer.concat(await Promise.all(files));
}
