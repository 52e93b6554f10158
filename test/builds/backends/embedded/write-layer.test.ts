import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { extract, type Header } from 'tar-stream';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Change, createFile, emptyDirectory } from '../../../../src/builds/backends/embedded/file-system.ts';
import { writeLayer } from '../../../../src/builds/backends/embedded/layers.ts';
import { digestOf } from '../../../../src/oci/digest.ts';

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'veneer-layer-'));
});

afterEach(() => rm(directory, { recursive: true, force: true }));

const file = createFile(Buffer.from('body'), 0o644);
const changes: readonly Change[] = [
  { path: ['d'], node: { ...emptyDirectory, mode: 0o1777 } },
  { path: ['d', 'empty'], node: createFile(new Uint8Array(0), 0) },
  { path: ['d', 'é'.repeat(150)], node: { ...file, uid: 3_000_000, gid: 4_000_000 } },
  { path: ['d', 'null'], node: { ...file, kind: 'character-device', major: 1, minor: 3 } },
  { path: ['d', 'x'], node: { ...file, mode: 0o4755, mtime: 7, xattrs: { 'SCHILY.xattr.user.a': 'b' } } },
  { path: ['link'], node: { ...file, kind: 'symlink', target: 'd/x' } },
];

async function readLayer() {
  const layer = await writeLayer(changes, { directory, compression: undefined, signal: new AbortController().signal });
  const raw = new Uint8Array(await new Response(await layer.open()).arrayBuffer());
  expect(digestOf(raw)).toBe(layer.descriptor.digest);
  expect(raw.byteLength).toBe(layer.descriptor.size);
  const tar = gunzipSync(raw);
  expect(digestOf(tar)).toBe(layer.diffId);
  return { raw, tar };
}

test('writes everything that a file can be', async () => {
  const archive = extract();
  archive.end((await readLayer()).tar);
  const headers: Header[] = [];
  for await (const entry of archive) {
    headers.push(entry.header);
    entry.resume();
  }
  expect(headers).toMatchObject([
    { name: 'd/', type: 'directory', mode: 0o1777 },
    { name: 'd/empty', type: 'file', mode: 0, size: 0 },
    { name: `d/${'é'.repeat(150)}`, pax: { uid: '3000000', gid: '4000000' } },
    { name: 'd/null', type: 'character-device', devmajor: 1, devminor: 3 },
    { name: 'd/x', mode: 0o4755, mtime: new Date(7000), pax: { 'SCHILY.xattr.user.a': 'b' } },
    { name: 'link', type: 'symlink', linkname: 'd/x' },
  ]);
});

test('gives the same bytes each time, with no time in the head of the gzip', async () => {
  const [first, second] = [await readLayer(), await readLayer()];
  expect(Buffer.compare(first.raw, second.raw)).toBe(0);
  expect([...first.raw.subarray(0, 10)]).toEqual([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, expect.any(Number)]);
});

test('ends with the error of a body that breaks', async () => {
  const open = async function* () {
    yield Buffer.from('bo');
    throw new Error('broken');
  };
  const writing = writeLayer([{ path: ['x'], node: { ...file, open } }], {
    directory,
    compression: undefined,
    signal: new AbortController().signal,
  });
  await expect(writing).rejects.toThrow('broken');
});

test('stops in the middle of a body when it is told to', async () => {
  const stop = new AbortController();
  const size = 64 * 1024 * 1024;
  let chunks = 0;
  const open = async function* () {
    for (; chunks < 64; chunks += 1) {
      if (chunks === 3) stop.abort();
      yield Buffer.alloc(1024 * 1024);
    }
  };
  const node = { ...file, size, open };
  const writing = writeLayer([{ path: ['x'], node }], { directory, compression: undefined, signal: stop.signal });
  await expect(writing).rejects.toThrow(/abort/i);
  expect(chunks).toBeLessThan(10);
});
