import { execFileSync } from 'node:child_process';
import { mkdir, mkdtempDisposable, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { entriesOf, indexLayer, normalizePath, packIndex, unpackIndex } from '../../src/augment/layer-index.ts';
import { packTar, type TarFile } from '../support/build-images.ts';

const LIMITS = { maxUnpackedBytes: 1024 ** 3, maxRatio: 200, maxEntries: 1000 };
const FILES: readonly TarFile[] = [
  { name: './', type: 'directory' },
  {
    name: './usr/',
    type: 'directory',
    mode: 0o1711,
    uid: 7,
    pax: { gid: String(2 ** 31) },
    mtime: new Date(86_400_000),
  },
  { name: '/usr/bin/sh', body: 'x'.repeat(3000) },
  { name: 'usr/bin/bash', type: 'link', linkname: 'usr/bin/sh' },
  { name: 'bin', type: 'symlink', linkname: 'usr/bin' },
  { name: 'a/../var//run', type: 'symlink', linkname: `/${'long/'.repeat(60)}` },
  { name: `${'deep/'.repeat(50)}ü` },
  { name: 'etc/.wh.passwd' },
  { name: 'opt/.wh..wh..opq' },
  { name: '.wh..wh.plnk/1.2' },
];
const ENTRIES = [
  { kind: 'directory', path: 'usr', attributes: { mode: 0o1711, uid: 7, gid: 2 ** 31, mtime: 86_400 } },
  { kind: 'file', path: 'usr/bin/sh' },
  { kind: 'file', path: 'usr/bin/bash' },
  { kind: 'link', path: 'bin', target: 'usr/bin' },
  { kind: 'link', path: 'var/run', target: `/${'long/'.repeat(60)}` },
  { kind: 'file', path: Buffer.from(`${'deep/'.repeat(50)}ü`).toString('latin1') },
  { kind: 'whiteout', path: 'etc/passwd' },
  { kind: 'opaque', path: 'opt' },
];

test.each([
  ['plain', (tar: Uint8Array) => tar],
  ['gzip', (tar: Uint8Array) => new Uint8Array(gzipSync(tar))],
  ['zstd', (tar: Uint8Array) => new Uint8Array(zstdCompressSync(tar))],
])('knows every name of a %s layer, in whatever pieces it arrives', async (_, pack) => {
  const packed = pack(await packTar(FILES));
  for (const size of [7, 512, packed.byteLength]) {
    expect([...entriesOf(await indexLayer(inPieces(packed, size), LIMITS))]).toEqual(ENTRIES);
    // Its reader brings one buffer for all pieces.
    expect([...entriesOf(await indexLayer(intoBuffers(packed, size), LIMITS))]).toEqual(ENTRIES);
  }
});

test.each(['bytes', undefined] as const)(
  'ends with the reason of its signal while a body of type %s is silent',
  async type => {
    const stop = new AbortController();
    const cancelled = Promise.withResolvers<unknown>();
    const asked = Promise.withResolvers<void>();
    const source = { pull: () => asked.resolve(), cancel: cancelled.resolve };
    const body = type ? new ReadableStream({ type, ...source }) : new ReadableStream<Uint8Array>(source);
    const indexed = indexLayer(body, LIMITS, stop.signal);
    await asked.promise;
    stop.abort(new Error('nobody waits'));
    await expect(indexed).rejects.toThrow('nobody waits');
    await cancelled.promise;
  },
);

test('is the same after it was kept, and not taken where another version kept it', async () => {
  const index = await indexLayer(inPieces(await packTar(FILES), 4096), LIMITS);
  const packed = await packIndex(index);
  expect(await unpackIndex(packed)).toEqual(index);
  packed[0] = 99;
  expect(await unpackIndex(packed)).toBeUndefined();
});

test.each(['gnu', 'ustar', 'pax', 'v7', 'oldgnu'])('reads what tar writes in its %s format', async format => {
  await using place = await mkdtempDisposable(join(tmpdir(), 'veneer-tar-'));
  const name = format === 'gnu' || format === 'pax' ? `${'d'.repeat(90)}/${'f'.repeat(140)}` : 'd/f';
  await mkdir(join(place.path, name, '..'), { recursive: true });
  await writeFile(join(place.path, name), 'some bytes');
  await writeFile(join(place.path, 'sparse'), '');
  await truncate(join(place.path, 'sparse'), 300_000);
  await symlink('../x', join(place.path, 'link'));
  await writeFile(join(place.path, 'last'), 'y');
  const sparse = format === 'gnu' || format === 'pax' || format === 'oldgnu' ? ['--sparse'] : [];
  const names = [name, 'sparse', 'link', 'last'];
  const tar = execFileSync('tar', [`--format=${format}`, ...sparse, '-C', place.path, '-c', ...names]);
  const entries = [...entriesOf(await indexLayer(inPieces(tar, 1000), LIMITS))];
  expect(entries).toEqual([
    { kind: 'file', path: name },
    { kind: 'file', path: 'sparse' },
    { kind: 'link', path: 'link', target: '../x' },
    { kind: 'file', path: 'last' },
  ]);
});

test('takes bytes that are no tar for a layer without names: no engine unpacks it', async () => {
  const noise = new Uint8Array(2000).fill(7);
  for (const bytes of [noise, new Uint8Array(gzipSync(noise)), new Uint8Array(0), new Uint8Array(10_240)]) {
    expect([...entriesOf(await indexLayer(inPieces(bytes, 512), LIMITS))]).toEqual([]);
  }
});

test('refuses what breaks off, is damaged, or is beyond the limits', async () => {
  const tar = await packTar(FILES);
  const damaged = Uint8Array.from(tar);
  damaged[600] = 255;
  const packed = new Uint8Array(gzipSync(tar));
  const cases: readonly [Uint8Array, Partial<typeof LIMITS>, RegExp][] = [
    [tar.subarray(0, 3000), {}, /truncated/],
    [damaged, {}, /invalid tar header/],
    [packed.subarray(0, packed.byteLength - 20), {}, /cannot be unpacked/],
    [tar, { maxEntries: 3 }, /more than 3 entries/],
    [tar, { maxUnpackedBytes: 2048 }, /more than 2048 bytes/],
  ];
  for (const [bytes, limits, reason] of cases) {
    await expect(indexLayer(inPieces(bytes, 512), { ...LIMITS, ...limits })).rejects.toThrow(reason);
  }
});

test('cancels the body where it stops reading', async () => {
  const cancelled = Promise.withResolvers<void>();
  const block = (await packTar([{ name: 'x' }])).subarray(0, 512);
  const body = new ReadableStream<Uint8Array>({
    pull: controller => controller.enqueue(block),
    cancel: () => cancelled.resolve(),
  });
  await expect(indexLayer(body, LIMITS)).rejects.toThrow(/more than 1000 entries/);
  await cancelled.promise;
});

test.each([
  ['bin/sh', 'bin/sh'],
  ['./bin/sh', 'bin/sh'],
  ['/bin//sh/', 'bin/sh'],
  ['bin/./sh', 'bin/sh'],
  ['../../bin/../sh', 'sh'],
  ['./', ''],
  ['..', ''],
  ['a/..', ''],
  ['...', '...'],
  ['.hidden/x', '.hidden/x'],
])('takes the name %s for %s', (name, path) => expect(normalizePath(name)).toBe(path));

/** A byte stream, which writes each piece into the buffer that its reader brings, over what was there. */
function intoBuffers(bytes: Uint8Array, size: number): ReadableStream<Uint8Array> {
  let at = 0;
  return new ReadableStream({
    type: 'bytes',
    autoAllocateChunkSize: 1024,
    pull(controller) {
      const request = controller.byobRequest;
      if (!request?.view) throw new TypeError('no view');
      const { buffer, byteOffset, byteLength } = request.view;
      const view = new Uint8Array(buffer, byteOffset, byteLength).fill(0xff);
      const piece = bytes.subarray(at, at + Math.min(size, byteLength));
      view.set(piece);
      at += piece.byteLength;
      if (piece.byteLength === 0) controller.close();
      request.respond(piece.byteLength);
    },
  });
}

function inPieces(bytes: Uint8Array, size: number): ReadableStream<Uint8Array> {
  const pieces = Array.from({ length: Math.ceil(bytes.byteLength / size) }, (_, at) =>
    bytes.subarray(at * size, (at + 1) * size),
  );
  return ReadableStream.from(pieces);
}
