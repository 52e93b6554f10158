// Rows by digest, whatever comes and goes.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createDigestTable, NONE } from '../../../src/cache/eviction/digest-table.ts';
import { type Digest, digestOf } from '../../../src/oci/digest.ts';

const digestAt = (at: number): Digest => digestOf(Buffer.from(`${at}`), at % 7 === 0 ? 'sha512' : 'sha256');

test('finds what was added and not removed, and gives each digest back by its row', () => {
  const step = fc.record({ at: fc.nat(400), isIn: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 2000 }), steps => {
      const table = createDigestTable();
      const rows = new Map<Digest, number>();
      for (const { at, isIn } of steps) {
        const digest = digestAt(at);
        expect(table.find(digest)).toBe(rows.get(digest) ?? NONE);
        const row = rows.get(digest);
        if (isIn && row === undefined) rows.set(digest, table.add(digest));
        if (!isIn && row !== undefined) {
          table.remove(row);
          rows.delete(digest);
        }
      }
      expect(new Set(rows.values()).size).toBe(rows.size);
      for (const [digest, row] of rows)
        expect({ row: table.find(digest), digest: table.get(row) }).toEqual({ row, digest });
    }),
    { numRuns: 50 },
  );
});

test('grows, and gives the rows of what has gone to what comes', () => {
  const table = createDigestTable();
  const all = Array.from({ length: 5000 }, (_, at) => digestAt(at));
  const rows = all.map(digest => table.add(digest));
  expect(all.map(digest => table.find(digest))).toEqual(rows);
  for (const row of rows.slice(0, 2500)) table.remove(row);
  expect(all.slice(0, 2500).map(digest => table.find(digest))).toEqual(Array(2500).fill(NONE));
  expect(all.slice(2500).map(digest => table.find(digest))).toEqual(rows.slice(2500));
  const later = Array.from({ length: 2500 }, (_, at) => table.add(digestAt(10_000 + at)));
  expect(Math.max(...later)).toBeLessThanOrEqual(5000);
});

test('tells two digests of equal first bytes apart', () => {
  const table = createDigestTable();
  const long = digestOf(Buffer.from('a'), 'sha512');
  const [, hex = ''] = long.split(':');
  const isShort = (text: string): text is Digest => text.length === 71;
  const short = `sha256:${hex.slice(0, 64)}`;
  if (!isShort(short)) throw new Error('of another length');
  const row = table.add(long);
  expect(table.find(short)).toBe(NONE);
  expect(table.get(table.add(short))).toBe(short);
  expect({ row: table.find(long), digest: table.get(row) }).toEqual({ row, digest: long });
});
