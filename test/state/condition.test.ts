// Whether records and bytes belong together, over files that were removed, exchanged, taken back and cut.
import { cp, mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createSqliteStore } from '../../src/state/sqlite.ts';

let folder: string;
let data: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veneer-condition-'));
  data = join(folder, 'data');
});

afterEach(() => rm(folder, { recursive: true }));

const open = (directory = data) => createSqliteStore({ path: join(directory, 'records.db') });
const record = (at: number) => [`tag-${at}`, new TextEncoder().encode(`digest ${at}`)] as const;

/** What `work` does with the records, in the condition in which they are found. */
async function findCondition(directory = data): Promise<string> {
  const store = open(directory);
  const { kind } = store.condition;
  await store.close();
  return kind;
}

async function write(from: number, to: number, directory = data): Promise<void> {
  const store = open(directory);
  for (let at = from; at < to; at += 1) await store.put('tags', ...record(at));
  await store.close();
}

/** What a crash leaves of records that were written and never closed: the files as they are at this moment. */
async function crash(count: number): Promise<string> {
  const store = open();
  for (let at = 0; at < count; at += 1) await store.put('tags', ...record(at));
  const left = join(folder, 'left');
  await cp(data, left, { recursive: true });
  await store.close();
  return left;
}

async function keepBytes(directory: string): Promise<void> {
  const place = join(directory, 'hosted/blobs/sha256/ab');
  await mkdir(place, { recursive: true });
  await writeFile(join(place, 'ab'.repeat(32)), 'bytes of a layer');
}

const removeRecords = async () => {
  for (const end of ['', '-wal', '-shm']) await rm(join(data, `records.db${end}`), { force: true });
};

test('records are whole when they are new, after a close, and after a crash', async () => {
  expect(await findCondition()).toBe('whole');
  await write(0, 5);
  expect(await findCondition()).toBe('whole');
  const left = await crash(5);
  expect(await findCondition(left)).toBe('whole');
});

test('each acknowledged write is noted beside the records, and none that changes nothing', async () => {
  const store = open();
  const note = async () => JSON.parse(await readFile(join(data, 'acknowledged.json'), 'utf8'));
  await store.put('tags', ...record(1));
  expect(await note()).toEqual({ id: expect.stringMatching(/^[0-9a-f]{32}$/), sequence: 1, isOpen: true });
  await store.write([{ kind: 'delete', collection: 'tags', key: 'tag-1' }]);
  expect(await note()).toMatchObject({ sequence: 2 });
  await store.write([]);
  await store.sweep();
  await store.delete('tags', 'none');
  expect(await note()).toMatchObject({ sequence: 2 });
  await store.close();
  expect(await note()).toMatchObject({ sequence: 2, isOpen: false });
});

describe.each<[string, string, () => Promise<unknown>]>([
  ['that were removed', 'gone', removeRecords],
  ['that were emptied', 'gone', () => truncate(join(data, 'records.db'), 0)],
  ['whose file was put in place of theirs', 'other', () => put('other')],
  ['that were taken back to an older copy', 'older', () => put('older')],
])('records %s', (_, kind, harm) => {
  beforeEach(async () => {
    await write(0, 3);
    await copyTo('older');
    await write(3, 10);
    await copyTo('right');
    await write(0, 20, join(folder, 'others'));
    await cp(join(folder, 'others/records.db'), join(folder, 'other.db'));
    await harm();
  });

  test(`are found to be ${kind}, and say what to do`, async () => {
    const store = open();
    expect(store.condition).toEqual({
      kind,
      reason: expect.stringContaining('the records are'),
      remedy: expect.stringContaining('veneer repair'),
    });
    await store.close();
  });

  test('stay so, however much is written to them, until they are accepted', async () => {
    await write(0, 50);
    expect(await findCondition()).toBe(kind);
    const store = open();
    await store.accept();
    expect(store.condition.kind).toBe('whole');
    await store.close();
    await write(50, 52);
    expect(await findCondition()).toBe('whole');
  });

  test('are whole when the right ones are put back, and not any more once others were accepted', async () => {
    await write(0, 50);
    await put('right');
    expect(await findCondition()).toBe('whole');
    await harm();
    const store = open();
    await store.accept();
    await store.close();
    await put('right');
    expect(await findCondition()).toBe('other');
  });
});

const copyTo = (name: string) => cp(join(data, 'records.db'), join(folder, `${name}.db`));
const put = async (name: string) => {
  await removeRecords();
  await cp(join(folder, `${name}.db`), join(data, 'records.db'));
};

test.each([
  ['is gone', (log: string) => rm(log)],
  ['is empty', (log: string) => truncate(log, 0)],
  ['ends early', async (log: string) => truncate(log, (await readFile(log)).length - 10_000)],
])('records whose write-ahead log %s are found out, as acknowledged ones were in it', async (_, harm) => {
  await write(0, 3);
  const left = await crash(30);
  await harm(join(left, 'records.db-wal'));
  const store = open(left);
  expect(store.condition.kind).toBe('older');
  expect(await store.list('tags', { limit: 100 })).not.toContain('tag-29');
  await store.close();
});

test('a log whose records are gone stays: it may be all that is left of them', async () => {
  const left = await crash(30);
  await rm(join(left, 'records.db'));
  expect(await findCondition(left)).toBe('gone');
  expect(await readdir(left)).toContain('records.db-wal.kept');
});

test('what is noted and cannot be read says nothing', async () => {
  await write(0, 3);
  for (const text of ['', '{"id":7}', 'x'.repeat(128)]) {
    await writeFile(join(data, 'acknowledged.json'), text);
    expect(await findCondition()).toBe('whole');
  }
});

test('bytes without any record or note are bytes whose records are gone', async () => {
  await keepBytes(data);
  expect(await findCondition()).toBe('gone');
});

test('the records of an older release are whole, and what it kept is found in them', async () => {
  await cp('fixtures/releases/schema-0', data, { recursive: true });
  const store = open();
  expect(store.condition.kind).toBe('whole');
  expect(await store.list('hosted.tag', { limit: 10 })).toEqual(['local/app:1', 'local/app:2']);
  expect(await store.list('token', { limit: 10 })).toHaveLength(1);
  await store.close();
  await write(0, 3);
  expect(await findCondition()).toBe('whole');
});

test('an older release that has lost its records, but not its bytes, is found out', async () => {
  await cp('fixtures/releases/schema-0', data, { recursive: true });
  const database = new DatabaseSync(join(data, 'records.db'), { timeout: 5_000 });
  database.exec('DELETE FROM records');
  database.close();
  expect(await findCondition()).toBe('gone');
});
