// Byte ranges: one range is served, what may be ignored is, and what lies beyond the end is refused.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseRange } from '../../src/oci/bytes.ts';
import { RegistryError } from '../../src/oci/errors.ts';

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

test('any header is a part of the bytes, all of them, or a RegistryError', () => {
  const number = fc.oneof(fc.nat().map(String), fc.constantFrom('', '-1', '1e3', '9'.repeat(30), ' 2'));
  const range = fc.tuple(number, number).map(([start, end]) => `${start}-${end}`);
  const header = fc.oneof(
    fc.string(),
    fc.array(range, { maxLength: 3 }).map(ranges => `bytes=${ranges}`),
  );
  fc.assert(
    fc.property(header, fc.nat(), (text, size) => {
      try {
        const part = parseRange(text, size);
        if (part === undefined) return;
        expect(Number.isSafeInteger(part.start) && Number.isSafeInteger(part.end)).toBe(true);
        expect(0 <= part.start && part.start <= part.end && part.end < size).toBe(true);
      } catch (error) {
        expect(error).toBeInstanceOf(RegistryError);
      }
    }),
    { numRuns: 1000 },
  );
});
