// The last bytes of a body in memory, for readers that keep up with its writer.
import { beforeEach, expect, test } from 'vitest';
import { createRecentBytes } from '../../src/content/tail-reader.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

let recent: ReturnType<typeof createRecentBytes>;

beforeEach(() => {
  recent = createRecentBytes();
});

function read(position: number, length: number): string {
  const view = new Uint8Array(length);
  return Buffer.from(view.subarray(0, recent.read(view, position))).toString();
}

test('gives what there is from any position, across chunks, as much as fits', () => {
  for (const text of ['abc', 'de', 'fghi']) recent.add(Buffer.from(text));
  expect(read(0, 20)).toBe('abcdefghi');
  expect(read(2, 4)).toBe('cdef');
  expect(read(8, 20)).toBe('i');
  expect(read(9, 20)).toBe('');
});

test('has all that is not in the file, and half a MiB of what is', () => {
  for (let count = 0; count < 64; count += 1) recent.add(Buffer.alloc(64 * KIB, count));
  expect(recent.read(new Uint8Array(4 * MIB), 0)).toBe(4 * MIB);
  recent.written(2 * MIB);
  expect(recent.read(new Uint8Array(1), 1.5 * MIB - 1)).toBe(0);
  const view = new Uint8Array(4 * MIB);
  expect(recent.read(view, 1.5 * MIB)).toBe(2.5 * MIB);
  expect([view[0], view[2.5 * MIB - 1]]).toEqual([24, 63]);
});

test('has nothing once it is cleared, and continues from there', () => {
  recent.add(Buffer.from('abc'));
  recent.clear();
  expect(read(0, 3)).toBe('');
  recent.add(Buffer.from('de'));
  expect(read(3, 3)).toBe('de');
});

test('gives memory of which all is in the file and half a MiB behind for the next bytes', () => {
  const rooms = new Set<ArrayBufferLike>();
  for (let position = 0; position < 16 * MIB; position += 64 * KIB) {
    const room = recent.room();
    rooms.add(room.buffer);
    recent.add(room.subarray(0, 64 * KIB).fill(position / (64 * KIB)));
    recent.written(Math.max(0, position - MIB));
    const oldest = Math.max(0, position - 1.5 * MIB);
    expect(read(oldest, 1)).toBe(Buffer.of(Math.floor(oldest / (64 * KIB))).toString());
  }
  expect(rooms.size).toBeLessThanOrEqual(5);
});
