// The file of the records: it is known for what it is, and what an older release wrote becomes what this one reads.
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { StateFault } from '../../src/state/data-directory.ts';
import { createSqliteStore } from '../../src/state/sqlite.ts';

const RELEASES = 'fixtures/releases';

let data: string;
let path: string;

beforeEach(async () => {
  data = await mkdtemp(join(tmpdir(), 'veneer-schema-'));
  path = join(data, 'records.db');
});

afterEach(() => rm(data, { recursive: true }));

function edit(sql: string): void {
  const database = new DatabaseSync(path);
  database.exec(sql);
  database.close();
}

function readHeader() {
  const database = new DatabaseSync(path, { readOnly: true });
  const [{ user_version: version } = {}] = database.prepare('PRAGMA user_version').all();
  const [{ application_id: application } = {}] = database.prepare('PRAGMA application_id').all();
  database.close();
  return { version: Number(version), application };
}

const APPLICATION = 0x56656e65;

test('a new file says whose it is, and by which schema', async () => {
  await createSqliteStore({ path }).close();
  expect(readHeader()).toEqual({ version: expect.any(Number), application: APPLICATION });
  expect(readHeader().version).toBeGreaterThan(0);
});

test.each([
  [
    'a schema of a newer release',
    'PRAGMA user_version = 9',
    /has schema 9, of a newer Veneer, .* up to \d+: start the newer one again, or restore/,
  ],
  [
    'that of another program',
    'PRAGMA application_id = 1',
    /is a database of another program: choose another data directory/,
  ],
])('a file with %s is refused, and stays as it is', async (_, sql, message) => {
  const store = createSqliteStore({ path });
  await store.put('tags', 'a', Uint8Array.of(1));
  await store.close();
  edit(sql);
  const before = await readFile(path);
  const open = () => createSqliteStore({ path });
  expect(open).toThrow(StateFault);
  expect(open).toThrow(message);
  expect(open).toThrow(path);
  expect((await readFile(path)).equals(before)).toBe(true);
});

test('a database of another program that says nothing of itself is refused', () => {
  edit('CREATE TABLE notes (text)');
  expect(() => createSqliteStore({ path })).toThrow(/is a database of another program/);
});

test('a file that is damaged from its beginning is reported with the way back', async () => {
  await createSqliteStore({ path }).close();
  const bytes = await readFile(path);
  await writeFile(path, Buffer.concat([Buffer.alloc(2000, 0x5a), bytes.subarray(2000)]));
  expect(() => createSqliteStore({ path })).toThrow(/records\.db: it is damaged, .*veneer restore/);
});

test('there is data of each release whose schema is older, made by that release', async () => {
  await createSqliteStore({ path }).close();
  const older = Array.from({ length: readHeader().version }, (_, version) => `schema-${version}`);
  const there = (await readdir(RELEASES)).filter(name => name !== 'README.md');
  expect(there.toSorted()).toEqual(older.toSorted());
});

test.each([0])('what the release with schema %i kept is there, whole, and can be written to', async version => {
  await cp(join(RELEASES, `schema-${version}`), data, { recursive: true });
  const before = new DatabaseSync(path, { readOnly: true });
  const rows = before.prepare('SELECT collection, key, value FROM records WHERE expires_at IS NULL').all();
  before.close();
  expect(rows.length).toBeGreaterThan(10);
  const store = createSqliteStore({ path });
  expect(store.condition.kind).toBe('whole');
  for (const { collection, key, value } of rows) {
    expect(await store.get(String(collection), String(key))).toEqual(value);
  }
  await store.put('tags', 'a', Uint8Array.of(1));
  await store.close();
  expect(readHeader()).toMatchObject({ application: APPLICATION });
});
