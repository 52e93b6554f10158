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
  const shares = Array.from({ length: bodies }, () => share());
  expect(shares.map(one => send(one).byteLength)).toEqual(shares.map(() => bytes));
  expect(shares.map(one => one.hasPair)).toEqual(shares.map(() => hasPair));
});

test('bodies have no more than there is for them', () => {
  const share = createSendBuffers({ totalBytes: 16 * KIB, spareBytes: 4 * KIB, minBytes: KIB, maxBytes: 4 * KIB });
  const shares = [share(), share()];
  expect(shares.map(one => send(one).byteLength)).toEqual([2 * KIB, 2 * KIB]);
  expect(shares.map(one => one.hasPair)).toEqual([false, false]);
});

test.each([
  { bodies: 1, bytes: 512 * KIB, hasPair: true },
  { bodies: 8, bytes: 256 * KIB, hasPair: true },
  { bodies: 32, bytes: 64 * KIB, hasPair: true },
  { bodies: 33, bytes: 64 * KIB, hasPair: false },
])('body $bodies begins with $bytes bytes, two: $hasPair', ({ bodies, bytes, hasPair }) => {
  const share = createSendBuffers();
  const last = Array.from({ length: bodies }, () => share()).at(-1);
  expect([last?.open().byteLength, last?.hasPair]).toEqual([bytes, hasPair]);
});

test('a body that is one of some has two buffers after two megabytes, and the largest after sixteen', () => {
  const share = createSendBuffers();
  const [one = share(), ...others] = Array.from({ length: 64 }, () => share()).toReversed();
  expect([send(one, { buffers: 15 }).byteLength, one.hasPair]).toEqual([64 * KIB, false]);
  expect([send(one, { buffers: 1 }).byteLength, one.hasPair]).toEqual([64 * KIB, true]);
  expect([send(one, { buffers: 224 }).byteLength, one.hasPair]).toEqual([512 * KIB, true]);
  expect(others).toHaveLength(63);
});

test.each([
  { bodyBytes: 1024, bytes: 64 * KIB },
  { bodyBytes: 1024 * KIB, bytes: 256 * KIB },
  { bodyBytes: 1024 * KIB + 1, bytes: 512 * KIB },
])('a body of $bodyBytes bytes has buffers of $bytes', ({ bodyBytes, bytes }) => {
  expect(createSendBuffers()(bodyBytes).open().byteLength).toBe(bytes);
});

test('the next body has the buffers that others gave back, if they are of its size', () => {
  const share = createSendBuffers();
  const first = share();
  const buffer = first.open();
  first.giveBack(buffer);
  first.leave();
  expect(share(KIB).open()).not.toBe(buffer);
  const second = share();
  expect(second.open()).toBe(buffer);
  expect(second.open()).not.toBe(buffer);
});

test('only some buffers are kept for other bodies', () => {
  const share = createSendBuffers()();
  const given = Array.from({ length: 20 }, () => share.open());
  given.forEach(share.giveBack);
  const kept = Array.from({ length: 20 }, () => share.open()).filter(buffer => given.includes(buffer));
  expect(kept).toHaveLength(8);
});

test('of many bodies each keeps the smallest for some megabytes, as far as the system takes them from any client', () => {
  const share = createSendBuffers();
  const [one = share()] = Array.from({ length: 65 }, () => share());
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
  const others = Array.from({ length: 15 }, () => share());
  const small = first.fit(large, 1);
  expect([large.detached, small.byteLength, first.hasPair]).toEqual([true, KIB, false]);
  for (const { leave } of others) leave();
  expect([first.fit(small, 1).byteLength, first.hasPair]).toEqual([4 * KIB, true]);
});
