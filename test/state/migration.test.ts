// Copies of all records, from one file to another: interrupted and resumed, compared in the end, and refused where others are.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import type { ServiceStore } from '../../src/state/acknowledged.ts';
import { beginMigration, copyAll, endMigration, requireComplete } from '../../src/state/migration.ts';
import { createSqliteStore, type SqliteStore } from '../../src/state/sqlite.ts';

let folder: string;
let from: SqliteStore;
let to: SqliteStore;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veneer-migration-'));
  from = createSqliteStore({ path: join(folder, 'from', 'records.db') });
  to = createSqliteStore({ path: join(folder, 'to', 'records.db') });
});

afterEach(async () => {
  await from.close();
  await to.close();
  await rm(folder, { recursive: true });
});

const bytes = (text: string) => new TextEncoder().encode(text);
const isWanted = (collection: string) => collection !== 'left';
const START = { collection: '', key: '' };

async function fill(store: SqliteStore, count: number): Promise<void> {
  const keys = Array.from({ length: count }, (_, at) => `${at}`);
  await store.write(keys.map(key => ({ kind: 'put', collection: 'tags', key, value: bytes(`value of ${key}`) })));
}

test('copies every record with its bytes and its expiry, also what has expired and what is large', async () => {
  await fill(from, 1200);
  await from.put('large', 'a', new Uint8Array(9_000_000).fill(7));
  await from.put('large', 'b', new Uint8Array(), { expiresAt: new Date('2001-01-01T00:00:00Z') });
  await from.put('é', '\u{1F600}', bytes('last'), { expiresAt: new Date('2090-01-01T00:00:00.123Z') });
  await from.put('left', 'a', bytes('stays'));
  await beginMigration(from, to);
  const { count, digest } = await copyAll(from, to, { isWanted });
  await endMigration(to);
  expect([count, digest]).toEqual([1203, expect.stringMatching(/^[0-9a-f]{64}$/)]);
  const [source, target] = [await from.readAll(START, 2000), await to.readAll(START, 2000)];
  const described = (records: typeof source) => records.map(({ value, ...rest }) => [rest, digestOf(value)]);
  expect(described(target)).toEqual(described(source.filter(({ collection }) => isWanted(collection))));
});

test('a copy that was interrupted is incomplete, and continues without writing again what is there', async () => {
  await fill(from, 1500);
  await beginMigration(from, to);
  let writes = 0;
  const failing: Pick<ServiceStore, 'readAll' | 'get' | 'write' | 'id'> = {
    ...to,
    async write(changes) {
      writes += 1;
      if (writes === 4) throw new Error('interrupted');
      await to.write(changes);
    },
  };
  await expect(copyAll(from, failing, { isWanted })).rejects.toThrow('interrupted');
  await expect(requireComplete(to, 'records.db')).rejects.toThrow(
    'the copy of the records in records.db is incomplete',
  );
  const there = (await to.readAll(START, 2000)).length - 1;
  expect(there).toBeGreaterThan(0);
  const written: string[] = [];
  const watched: typeof failing = {
    ...to,
    async write(changes) {
      written.push(...changes.map(({ key }) => key));
      await to.write(changes);
    },
  };
  await beginMigration(from, to);
  const { count } = await copyAll(from, watched, { isWanted });
  await endMigration(to);
  expect([count, written.length]).toEqual([1500, 1500 - there]);
  await requireComplete(to, 'records.db');
});

test('what has changed since an interrupted run is copied again, and what is gone goes', async () => {
  await fill(from, 100);
  await beginMigration(from, to);
  await copyAll(from, to, { isWanted });
  await from.put('tags', '50', bytes('changed'));
  await from.delete('tags', '7');
  await from.delete('tags', '99');
  await from.put('tags', '3', bytes('value of 3'), { expiresAt: new Date('2090-01-01') });
  await beginMigration(from, to);
  expect((await copyAll(from, to, { isWanted })).count).toBe(98);
  await endMigration(to);
  expect(await to.readAll(START, 200)).toEqual(await from.readAll(START, 200));
});

test('refuses a target that has records of its own, or a part of others, and changes nothing', async () => {
  await fill(from, 3);
  await to.put('tokens', 'a', bytes('theirs'));
  await expect(beginMigration(from, to)).rejects.toThrow('records of its own, such as one of the collection tokens');
  await to.delete('tokens', 'a');
  await beginMigration({ ...from, id: 'other' }, to);
  await expect(beginMigration(from, to)).rejects.toThrow('an incomplete copy of other records');
  expect(await to.list('tags', { limit: 10 })).toEqual([]);
});

test('finds out where the target is not what was copied', async () => {
  await fill(from, 3);
  const deaf = { ...to, write: async () => {} };
  await expect(copyAll(from, deaf, { isWanted })).rejects.toThrow('the copy differs from the records: 0 records');
});

test('whatever either side has, the target ends as the source', async () => {
  const key = fc.string({ minLength: 0, maxLength: 3, unit: 'grapheme' });
  const record = fc.record({
    collection: fc.constantFrom('a', 'b', 'left'),
    key,
    value: fc.uint8Array({ maxLength: 4 }),
    expiresAt: fc.option(fc.constantFrom(new Date('2090-01-01'), new Date('2000-01-01')), { nil: undefined }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(record, { maxLength: 40 }), fc.array(record, { maxLength: 40 }), async (own, theirs) => {
      for (const store of [from, to]) {
        const old = await store.readAll(START, 1000);
        await store.write(old.map(({ collection, key }) => ({ kind: 'delete', collection, key })));
      }
      const put = (store: SqliteStore, records: typeof own) =>
        store.write(
          records
            .filter(({ key }) => key !== '')
            .map(({ expiresAt, ...rest }) => ({ kind: 'put', ...rest, ...(expiresAt && { expiresAt }) })),
        );
      await put(from, own);
      await put(
        to,
        theirs.filter(({ collection }) => isWanted(collection)),
      );
      await copyAll(from, to, { isWanted });
      const source = (await from.readAll(START, 1000)).filter(({ collection }) => isWanted(collection));
      expect(await to.readAll(START, 1000)).toEqual(source);
    }),
    { numRuns: 30 },
  );
});
