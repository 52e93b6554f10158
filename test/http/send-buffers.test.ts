// The buffers of bodies: large ones for a few, small ones for many, and what all of them take is bounded.
import { expect, test } from 'vitest';
import { createSendBuffers } from '../../src/http/send-buffers.ts';

const KIB = 1024;
const create = () => createSendBuffers({ totalBytes: 16 * KIB, minBytes: KIB, maxBytes: 4 * KIB });

test.each([
  { bodies: 1, hasPair: true, bytes: 4 * KIB },
  { bodies: 2, hasPair: true, bytes: 4 * KIB },
  { bodies: 3, hasPair: false, bytes: 4 * KIB },
  { bodies: 4, hasPair: false, bytes: 4 * KIB },
  { bodies: 5, hasPair: false, bytes: 2 * KIB },
  { bodies: 16, hasPair: false, bytes: KIB },
  { bodies: 100, hasPair: false, bytes: KIB },
])('of $bodies bodies each has buffers of $bytes bytes, two: $hasPair', ({ bodies, hasPair, bytes }) => {
  const share = create();
  const shares = Array.from({ length: bodies }, share);
  expect(shares.map(one => one.hasPair)).toEqual(shares.map(() => hasPair));
  expect(shares.map(one => one.fit().byteLength)).toEqual(shares.map(() => bytes));
});

test('a body keeps its buffer while its size is right', () => {
  const share = create()();
  const buffer = share.fit();
  expect(share.fit(buffer)).toBe(buffer);
});

test('a body gives memory back when many others come, and has it again when they have left', () => {
  const share = create();
  const first = share();
  const large = first.fit();
  const others = Array.from({ length: 15 }, share);
  const small = first.fit(large);
  expect([large.detached, small.byteLength, first.hasPair]).toEqual([true, KIB, false]);
  for (const { leave } of others) leave();
  expect([first.fit(small).byteLength, first.hasPair]).toEqual([4 * KIB, true]);
});
