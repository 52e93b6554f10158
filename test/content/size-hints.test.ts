// What content needs that ran out of room before anybody knew how long it is.
import { expect, test } from 'vitest';
import { createSizeHints } from '../../src/content/free-space.ts';
import { digestOf } from '../../src/oci/digest.ts';

const digest = digestOf(Buffer.from('some content'));

test('content needs its size where that is known, and nothing that anybody knows of where it is not', () => {
  const sizeHints = createSizeHints();
  expect([undefined, { digest }, { digest, size: 7 }].map(sizeHints.needOf)).toEqual([0, 0, 7]);
});

test('content of no known size needs as much as the most that has come of it when the disk was full', () => {
  const sizeHints = createSizeHints();
  for (const bytes of [50, 100, 0]) sizeHints.note({ digest }, bytes);
  expect(sizeHints.needOf({ digest })).toBe(100);
  expect(sizeHints.needOf({ digest: digestOf(Buffer.from('other content')) })).toBe(0);
  expect(sizeHints.needOf({ digest, size: 7 })).toBe(7);
});

test('what a size was promised for needs that, whatever came of it', () => {
  const sizeHints = createSizeHints();
  sizeHints.note({ digest, size: 7 }, 5);
  expect(sizeHints.needOf({ digest })).toBe(0);
});
