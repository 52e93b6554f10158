// Guesses, counted by names that clients choose.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { createAttempts } from '../../src/access/passwords.ts';

const OPTIONS = { name: 'guesses', max: 2, windowMs: 60_000, now: () => new Date(0) };

test('long names are told apart, and take no more memory than short ones', async () => {
  setFlagsFromString('--expose-gc');
  const collect: () => void = runInNewContext('gc');
  const attempts = createAttempts(OPTIONS);
  const nameOf = (at: number) => `${at} ${'x'.repeat(8000)}`;
  collect();
  const before = process.memoryUsage().heapUsed;
  for (let at = 0; at < 2000; at += 1) {
    await attempts.begin(nameOf(at));
    await attempts.begin(nameOf(at));
  }
  collect();
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(4_000_000);
  await expect(attempts.begin(nameOf(0))).rejects.toThrow('too many wrong passwords');
  await attempts.begin(nameOf(2000));
});
