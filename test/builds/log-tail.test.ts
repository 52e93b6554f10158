import { expect, test } from 'vitest';
import { createLogTail } from '../../src/builds/progress.ts';

test('a log that fits is whole', () => {
  const tail = createLogTail(10);
  for (const line of ['abc', 'def']) tail.add(line);
  expect(tail.text).toBe('abc\ndef\n');
});

test('of a longer one the end is left, however long its lines are', () => {
  const tail = createLogTail(10);
  for (let at = 0; at < 1000; at++) tail.add(`line ${at}`);
  expect(tail.text).toBe('\nline 999\n');
  tail.add('x'.repeat(100));
  expect(tail.text).toBe(`${'x'.repeat(9)}\n`);
});

test('no half of a character is left at its beginning', () => {
  const tail = createLogTail(4);
  tail.add('\u{1f600}ab');
  expect(tail.text).toBe('\ufffdab\n');
});
