// The buffers of bodies: large ones for a few clients that take them at once, small ones for many and for slow ones; what all take is bounded.
import { expect, test } from 'vitest';
import { createSendBuffers } from '../../../src/http/middleware/body-memory.ts';

const KIB = 1024;
const create = () => createSendBuffers({ totalBytes: 16 * KIB, minBytes: KIB, maxBytes: 4 * KIB });
type Share = ReturnType<ReturnType<typeof create>>;

/** The buffer of a body after its client has taken many, each in so long. */
function send(share: Share, { tookMs = 1, buffers = 1000 } = {}): ArrayBuffer {
  let buffer = share.open();
  for (let at = 0; at < buffers; at += 1) buffer = share.fit(buffer, tookMs);
  return buffer;
}

test.each([
  { bodies: 1, hasPair: true, bytes: 4 * KIB },
  { bodies: 2, hasPair: true, bytes: 4 * KIB },
  { bodies: 3, hasPair: false, bytes: 4 * KIB },
  { bodies: 4, hasPair: false, bytes: 4 * KIB },
  { bodies: 5, hasPair: false, bytes: 2 * KIB },
  { bodies: 16, hasPair: false, bytes: KIB },
  { bodies: 100, hasPair: false, bytes: KIB },
])('of $bodies quick bodies each has buffers of $bytes bytes, two: $hasPair', ({ bodies, hasPair, bytes }) => {
  const share = create();
  const shares = Array.from({ length: bodies }, share);
  expect(shares.map(one => send(one).byteLength)).toEqual(shares.map(() => bytes));
  expect(shares.map(one => one.hasPair)).toEqual(shares.map(() => hasPair));
});

test('bodies have no more than there is for them', () => {
  const share = createSendBuffers({ totalBytes: 16 * KIB, spareBytes: 4 * KIB, minBytes: KIB, maxBytes: 4 * KIB });
  const shares = [share(), share()];
  expect(shares.map(one => send(one).byteLength)).toEqual([2 * KIB, 2 * KIB]);
  expect(shares.map(one => one.hasPair)).toEqual([false, false]);
});

test('a body begins with one of the smallest, and has two as soon as its client has taken two megabytes at once', () => {
  const share = createSendBuffers()();
  expect([share.open().byteLength, share.hasPair]).toEqual([64 * KIB, false]);
  expect([send(share, { buffers: 31 }).byteLength, share.hasPair]).toEqual([64 * KIB, false]);
  expect([send(share, { buffers: 1 }).byteLength, share.hasPair]).toEqual([64 * KIB, true]);
  expect([send(share, { buffers: 224 }).byteLength, share.hasPair]).toEqual([512 * KIB, true]);
});

test('of many bodies each keeps the smallest for some megabytes, as far as the system takes them from any client', () => {
  const share = createSendBuffers();
  const [one = share()] = Array.from({ length: 65 }, share);
  expect([send(one, { buffers: (8 * KIB * KIB) / (64 * KIB) }).byteLength, one.hasPair]).toEqual([64 * KIB, false]);
});

test('a client that takes its time has the smallest buffer, also after it was quick', () => {
  const share = create()();
  expect(send(share, { tookMs: 500 }).byteLength).toBe(KIB);
  const large = send(share);
  expect(large.byteLength).toBe(4 * KIB);
  expect([share.fit(large, 500).byteLength, share.hasPair]).toEqual([KIB, false]);
});

test('a body keeps its buffer while its size is right', () => {
  const share = create()();
  const buffer = send(share);
  expect(share.fit(buffer, 1)).toBe(buffer);
});

test('a body gives memory back when many others come, and has it again when they have left', () => {
  const share = create();
  const first = share();
  const large = send(first);
  const others = Array.from({ length: 15 }, share);
  const small = first.fit(large, 1);
  expect([large.detached, small.byteLength, first.hasPair]).toEqual([true, KIB, false]);
  for (const { leave } of others) leave();
  expect([first.fit(small, 1).byteLength, first.hasPair]).toEqual([4 * KIB, true]);
});
