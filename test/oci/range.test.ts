// Byte ranges: one range is served, what may be ignored is, and what lies beyond the end is refused.
import { expect, test } from 'vitest';
import { parseRange } from '../../src/oci/range.ts';

test.each([
  ['bytes=0-0', { start: 0, end: 0 }],
  ['bytes=2-4', { start: 2, end: 4 }],
  ['bytes=7-', { start: 7, end: 9 }],
  ['bytes=7-100', { start: 7, end: 9 }],
  ['bytes=-3', { start: 7, end: 9 }],
  [undefined, undefined],
  ['nonsense', undefined],
  ['items=0-1', undefined],
  ['bytes=0-1,4-5', undefined],
])('of ten bytes, %s is %j', (header, expected) => {
  expect(parseRange(header, 10)).toEqual(expected);
});

test.each(['bytes=10-', 'bytes=10-20'])('refuses %s of ten bytes', header => {
  expect(() => parseRange(header, 10)).toThrow(expect.objectContaining({ code: 'RANGE_INVALID', status: 416 }));
});
