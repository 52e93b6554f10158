// Comparing passwords in a thread.
import { setImmediate } from 'node:timers/promises';
import { hashSync } from 'bcryptjs';
import { expect, onTestFinished, test } from 'vitest';
import { createBcrypt } from '../../src/access/bcrypt.ts';

test('tells a right password from a wrong one, in every spelling of the hash', async () => {
  const bcrypt = open();
  const hash = hashSync('right', 4);
  for (const spelling of ['$2a$', '$2b$', '$2y$'].map(prefix => hash.replace('$2b$', prefix))) {
    expect(await bcrypt.compare('right', spelling)).toBe(true);
    expect(await bcrypt.compare('wrong', spelling)).toBe(false);
  }
});

test('keeps the answers of many apart', async () => {
  const bcrypt = open();
  const hashes = Array.from({ length: 20 }, (_, i) => hashSync(`password ${i}`, 4));
  const answers = await Promise.all(hashes.map((hash, i) => bcrypt.compare(`password ${i - (i % 2)}`, hash)));
  expect(answers).toEqual(hashes.map((_, i) => i % 2 === 0));
});

test('lets other work go on while it compares', async () => {
  const bcrypt = open();
  await bcrypt.compare('start the thread', hashSync('x', 4));
  let turns = 0;
  let isDone = false;
  const comparison = bcrypt.compare('x', hashSync('y', 4).replace('$04$', '$11$')).finally(() => {
    isDone = true;
  });
  for (; !isDone; turns++) await setImmediate();
  expect(await comparison).toBe(false);
  expect(turns).toBeGreaterThan(100);
});

test('refuses more than a hundred that wait', async () => {
  const bcrypt = open();
  const hash = hashSync('x', 4);
  const answers = await Promise.allSettled(Array.from({ length: 200 }, () => bcrypt.compare('x', hash)));
  const refused = answers.filter(answer => answer.status === 'rejected');
  expect(refused.length).toBeGreaterThanOrEqual(90);
  expect(refused[0]?.reason).toMatchObject({ code: 'TOOMANYREQUESTS', retryAfterSeconds: 1 });
  expect(await bcrypt.compare('x', hash)).toBe(true);
});

function open() {
  const bcrypt = createBcrypt();
  onTestFinished(() => bcrypt.close());
  return bcrypt;
}
