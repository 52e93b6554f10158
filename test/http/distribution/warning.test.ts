// Warnings: the spelling of the header, and how much of it there may be.
import { expect, test } from 'vitest';
import { formatWarning } from '../../../src/http/distribution/push.ts';

test.each([
  ['plain text', 'all is well', '299 - "all is well"'],
  ['quotes and backslashes', 'a "name" in C:\\', '299 - "a \\"name\\" in C:\\\\"'],
  ['what would begin another header', 'a\r\nX-Injected: 1\u0000', '299 - "a??X-Injected: 1?"'],
  ['letters of other alphabets', 'naïve 🐟', '299 - "na?ve ??"'],
])('escapes %s', (_, text, expected) => {
  expect(formatWarning(text)).toBe(expected);
});

test('is at most 4096 bytes long, and its quotes are closed', () => {
  const warning = formatWarning('"'.repeat(10_000));
  expect(warning).toMatch(/^299 - "(?:\\")+"$/);
  expect(Buffer.byteLength(warning)).toBeLessThanOrEqual(4096);
});
