// Room is promised to bodies before they come, and never twice.
import { statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { expect, test } from 'vitest';
import { createFreeSpace } from '../../src/content/free-space.ts';

const MIB = 1024 * 1024;
/** No disk has this. */
const TOO_MUCH = 2 ** 52;

test('is granted where there is enough', async () => {
  await expect(createFreeSpace(tmpdir())(5 * MIB).ensure()).resolves.toBeUndefined();
});

test('is refused, with figures, where there is not', async () => {
  await expect(createFreeSpace(tmpdir())(TOO_MUCH).ensure()).rejects.toThrow(/\d+ bytes are free, \d+ are reserved/);
});

test('is not promised to two, until the first is done', async () => {
  const claim = createFreeSpace(tmpdir());
  const first = claim(TOO_MUCH);
  const second = claim(5 * MIB);
  await expect(second.ensure()).rejects.toThrow('bytes are free');
  first.release();
  await expect(second.ensure()).resolves.toBeUndefined();
});

test('is there for nothing that is known yet, on any disk', async () => {
  const claim = createFreeSpace(tmpdir());
  claim(TOO_MUCH);
  await expect(claim(0).ensure()).resolves.toBeUndefined();
});

test('is not promised to small things for which there is none, so many at a time', async () => {
  const claim = createFreeSpace(tmpdir());
  const { bavail, bsize } = await statfs(tmpdir());
  // Twice as many as there is room for: others may leave room meanwhile.
  const many = Array.from({ length: Math.ceil((2 * bavail * bsize) / (4 * MIB)) }, () => claim(4 * MIB));
  await expect(claim(MIB).ensure()).rejects.toThrow('for records');
  for (const each of many) each.release();
  await expect(claim(MIB).ensure()).resolves.toBeUndefined();
});

test('is there for small things when it is for no others', async () => {
  const claim = createFreeSpace(tmpdir());
  claim(TOO_MUCH);
  await expect(claim(MIB).ensure()).resolves.toBeUndefined();
});
