// Writes by a thread of their own, while other programs hold the lock, while the file is away or damaged, and by the thousand at once.
import { cp, mkdtemp, open, readFile, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createSqliteStore, type SqliteStore } from '../../src/state/sqlite.ts';
import { RecordStoreBusy, RecordStoreDamaged } from '../../src/state/store.ts';
import { countTurns } from '../support/turns.ts';

let folder: string;
let path: string;
let store: SqliteStore;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veneer-writes-'));
  path = join(folder, 'data', 'records.db');
  store = createSqliteStore({ path });
});

afterEach(async () => {
  await store.close();
  await rm(folder, { recursive: true });
});

const bytes = (text: string) => new TextEncoder().encode(text);
const read = async (key: string) => new TextDecoder().decode(await store.get('tags', key));

/** Another program that has begun to write, and does not end it. */
function lock(): { release(): void } {
  const database = new DatabaseSync(path);
  database.exec('BEGIN IMMEDIATE');
  return { release: () => database.close() };
}

test('a write waits for the lock of another program, while all else continues, reading too', async () => {
  await store.put('tags', 'a', bytes('before'));
  const { release } = lock();
  let isWritten = false;
  const written = store.put('tags', 'a', bytes('after')).then(() => {
    isWritten = true;
  });
  // A thread that waits itself would not come to this, and then would have no lock to write.
  await setTimeout(1000);
  expect([await read('a'), isWritten]).toEqual(['before', false]);
  release();
  await written;
  expect(await read('a')).toBe('after');
});

test('a lock that is held for long fails what waits, and nothing after it', async () => {
  await store.close();
  store = createSqliteStore({ path, busyMs: 100 });
  const { release } = lock();
  const failed = await Promise.allSettled(['a', 'b', 'c'].map(key => store.put('tags', key, bytes('x'))));
  expect(failed.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
  expect(failed[0]).toMatchObject({ reason: expect.any(RecordStoreBusy) });
  await expect(store.put('tags', 'a', bytes('x'))).rejects.toMatchObject({ code: 'EBUSY' });
  release();
  await store.put('tags', 'd', bytes('y'));
  expect(await store.list('tags', { limit: 10 })).toEqual(['d']);
});

async function readSequence(): Promise<number> {
  return JSON.parse(await readFile(join(folder, 'data/acknowledged.json'), 'utf8')).sequence;
}

test('writes that come together are on the disk together, in their order, and each is reported', async () => {
  await store.put('tags', 'first', bytes('x'));
  const answers = await Promise.all([
    ...Array.from({ length: 2000 }, (_, at) => store.put('tags', 'same', bytes(`${at}`))),
    store.delete('tags', 'first'),
    store.delete('tags', 'first'),
  ]);
  expect(answers.slice(-2)).toEqual([true, false]);
  expect(await read('same')).toBe('1999');
  expect(await readSequence()).toBeLessThan(100);
});

test('of writes that come together one that cannot be made fails alone', async () => {
  const database = new DatabaseSync(path);
  database.exec(
    "CREATE TRIGGER refusing BEFORE INSERT ON records WHEN NEW.key = 'no' BEGIN SELECT RAISE(ABORT, 'not this one'); END",
  );
  database.close();
  const put = (key: string) => ({ kind: 'put', collection: 'tags', key, value: bytes(key) }) as const;
  const settled = await Promise.allSettled([
    store.put('tags', 'warm', bytes('x')),
    ...['a', 'no', 'b'].map(key => store.put('tags', key, bytes(key))),
    store.write([put('part'), put('no')]),
    store.write([put('c'), put('d')]),
  ]);
  const [ok, failed] = ['fulfilled', 'rejected'];
  expect(settled.map(({ status }) => status)).toEqual([ok, ok, failed, ok, failed, ok]);
  expect(await store.list('tags', { limit: 10 })).toEqual(['a', 'b', 'c', 'd', 'warm']);
});

test('a close waits for all that was asked for, and what comes later fails', async () => {
  const written = Array.from({ length: 1500 }, (_, at) => store.put('tags', `k${at}`, bytes('x')));
  await store.close();
  await Promise.all(written);
  await expect(store.put('tags', 'late', bytes('x'))).rejects.toThrow('the record store is closed');
  store = createSqliteStore({ path });
  expect(await store.list('tags', { limit: 2000 })).toHaveLength(1500);
});

test('what is given may be changed at once, and what is read holds nothing larger', async () => {
  const pool = Buffer.alloc(64 * 1024, 'x');
  const small = pool.subarray(100, 110);
  const written = store.put('tags', 'small', small);
  pool.fill('y');
  await written;
  expect(await read('small')).toBe('x'.repeat(10));
  const [entry] = await store.entries('tags', { limit: 1 });
  for (const value of [await store.get('tags', 'small'), entry?.value]) expect(value?.buffer.byteLength).toBe(10);
});

test('a thread that dies fails what it was at, and another makes the next write', async () => {
  await rename(path, `${path}.away`);
  await expect(store.put('tags', 'a', bytes('x'))).rejects.toThrow('the thread that writes records has died');
  await rename(`${path}.away`, path);
  await store.put('tags', 'b', bytes('y'));
  expect(await store.list('tags', { limit: 10 })).toEqual(['b']);
});

test('nothing is acknowledged once the file was removed or replaced, and all is well when it is back', async () => {
  await store.put('tags', 'a', bytes('x'));
  await rename(path, `${path}.away`);
  await expect(store.put('tags', 'b', bytes('y'))).rejects.toThrow(/records\.db was removed or replaced/);
  await cp(`${path}.away`, path);
  await expect(store.put('tags', 'b', bytes('y'))).rejects.toThrow(/put it back/);
  await rename(`${path}.away`, path);
  await store.put('tags', 'c', bytes('z'));
  expect(await store.list('tags', { limit: 10 })).toEqual(['a', 'c']);
});

test('reading very many records page by page lets other work continue', async () => {
  // Each look at the clock is 3 ms later: a machine may be so fast that few turns are due.
  let nowMs = 0;
  vi.spyOn(performance, 'now').mockImplementation(() => {
    nowMs += 3;
    return nowMs;
  });
  const changes = Array.from({ length: 20_000 }, (_, at) => {
    return { kind: 'put', collection: 'tags', key: `k${at}`, value: new Uint8Array(200) } as const;
  });
  await store.write(changes);
  const { turns } = await countTurns(async () => {
    for (let after: string | undefined = ''; after !== undefined; ) {
      const page: readonly string[] = (await store.entries('tags', { after, limit: 100 })).map(({ key }) => key);
      after = page.at(-1);
    }
  });
  expect(turns).toBeGreaterThan(50);
});

/** Many records, as a crash leaves them. */
async function crash(): Promise<string> {
  const changes = Array.from({ length: 3000 }, (_, at) => {
    return { kind: 'put', collection: 'tags', key: `k${at}`, value: new Uint8Array(200) } as const;
  });
  await store.write(changes);
  const database = new DatabaseSync(path);
  database.exec('PRAGMA wal_checkpoint(TRUNCATE)');
  database.close();
  await store.put('tags', 'last', bytes('x'));
  const left = join(folder, 'left');
  await cp(join(folder, 'data'), left, { recursive: true });
  return join(left, 'records.db');
}

/** All pages of the second half. */
async function damage(file: string): Promise<void> {
  const handle = await open(file, 'r+');
  const { size } = await handle.stat();
  for (let at = Math.floor(size / 8192) * 4096; at < size; at += 4096)
    await handle.write(Buffer.alloc(2000, 0x5a), 0, 2000, at + 8);
  await handle.close();
}

async function reopen(file: string): Promise<void> {
  await store.close();
  path = file;
  store = createSqliteStore({ path });
}

test('records that were not closed are read once, and are whole where they make sense', async () => {
  await reopen(await crash());
  await store.check();
  expect(store.condition.kind).toBe('whole');
  await store.put('tags', 'more', bytes('x'));
  await store.close();
  expect(JSON.parse(await readFile(join(path, '../acknowledged.json'), 'utf8'))).toMatchObject({ isOpen: false });
});

test('damage after a crash is found without anybody asking for it, until it is put right', async () => {
  const left = await crash();
  await damage(left);
  await reopen(left);
  await store.check();
  expect(store.condition).toMatchObject({ kind: 'damaged', remedy: expect.stringContaining('veneer restore') });
  await reopen(left);
  await store.check();
  expect(store.condition.kind).toBe('damaged');
});

test('damage that is met is reported with the file and the way back', async () => {
  const left = await crash();
  await damage(left);
  await reopen(left);
  expect(store.condition.kind).toBe('whole');
  const met = await store.entries('tags', { limit: 5000 }).catch((error: unknown) => error);
  expect(met).toBeInstanceOf(RecordStoreDamaged);
  expect(met).toMatchObject({ message: expect.stringMatching(/left\/records\.db is damaged .*veneer restore/) });
  expect(store.condition.kind).toBe('damaged');
});
