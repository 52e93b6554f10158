// Build contexts as cpio archives, byte for byte.
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { expect, onTestFinished, test } from 'vitest';
import { encodeCpio, packContext } from '../../../../src/builds/backends/kubernetes/archive.ts';
import type { Entry } from '../../../../src/builds/context/tree.ts';

const file = (text: string, mode = 0o644): Entry => ({
  kind: 'file',
  mode,
  size: Buffer.byteLength(text),
  open: async function* () {
    yield Buffer.from(text);
  },
});

async function encode(entries: readonly (readonly [string, Entry])[]): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of encodeCpio(entries)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

interface Read {
  readonly name: string;
  readonly mode: number;
  readonly body: string;
}

/** As cpio(5) has the format `newc`. */
function readCpio(bytes: Buffer): readonly Read[] {
  const entries: Read[] = [];
  const field = (at: number, i: number) =>
    Number.parseInt(bytes.toString('latin1', at + 6 + i * 8, at + 14 + i * 8), 16);
  const aligned = (at: number) => Math.ceil(at / 4) * 4;
  for (let at = 0; ; ) {
    expect(bytes.toString('latin1', at, at + 6)).toBe('070701');
    const [mode, size, length] = [field(at, 1), field(at, 6), field(at, 11)];
    const name = bytes.toString('utf8', at + 110, at + 110 + length - 1);
    const start = aligned(at + 110 + length);
    if (name === 'TRAILER!!!') return entries;
    entries.push({ name, mode, body: bytes.toString('utf8', start, start + size) });
    at = aligned(start + size);
  }
}

test('files, directories and links come with their modes, whatever their names', async () => {
  const long = `${'d'.repeat(100)}/${'f'.repeat(200)}`;
  const entries: readonly (readonly [string, Entry])[] = [
    ['dir', { kind: 'directory', mode: 0o1750 }],
    ['dir/Grüße 世界', file('hello', 0o4755)],
    ['empty', file('')],
    ['link', { kind: 'symlink', target: '../elsewhere' }],
    [long, file('long')],
  ];
  expect(readCpio(await encode(entries))).toEqual([
    { name: 'dir', mode: 0o041750, body: '' },
    { name: 'dir/Grüße 世界', mode: 0o104755, body: 'hello' },
    { name: 'empty', mode: 0o100644, body: '' },
    { name: 'link', mode: 0o120777, body: '../elsewhere' },
    { name: long, mode: 0o100644, body: 'long' },
  ]);
});

test('a folder is packed with gzip, a directory before what is in it', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'veneer-archive-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  await mkdir(join(folder, 'a'));
  await writeFile(join(folder, 'a', 'b'), 'B');
  await symlink('a/b', join(folder, 'c'));
  const chunks: Uint8Array[] = [];
  for await (const chunk of await packContext(folder)) chunks.push(chunk);
  const names = readCpio(gunzipSync(Buffer.concat(chunks))).map(({ name, body }) => [name, body]);
  expect(names).toEqual([
    ['a', ''],
    ['a/b', 'B'],
    ['c', 'a/b'],
  ]);
});
