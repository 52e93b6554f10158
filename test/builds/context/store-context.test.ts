// Contexts of every kind become one canonical tar.
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { canonical, paxHeader, rawHeader, tarOf, tarSource } from './fixture.ts';

const plain = await tarOf(
  { name: 'app', type: 'directory', mode: 0o755 },
  { name: 'app/main.js', text: 'main', mode: 0o644 },
  { name: 'run.sh', text: '#!/bin/sh', mode: 0o755 },
);

test('keeps names, kinds, permissions and bytes, sorted, of no time and no owner', async () => {
  const { lines, headers } = await canonical(
    tarSource(
      await tarOf(
        { name: 'z', text: 'last', mode: 0o4755, uid: 1000, gid: 1000, uname: 'me' },
        { name: 'link', type: 'symlink', linkname: 'b/c' },
        { name: './b//c', text: 'deep', mode: 0o600 },
        { name: 'empty/', type: 'directory', mode: 0o700 },
      ),
    ),
  );
  expect(lines).toEqual([
    'directory 755 b',
    'file 600 b/c = deep',
    'directory 700 empty',
    'symlink 777 link -> b/c',
    'file 4755 z = last',
  ]);
  for (const header of headers) {
    expect(header).toMatchObject({ uid: 0, gid: 0, uname: '', gname: '', mtime: new Date(0) });
  }
});

test('makes the same bytes of the same files, however they were packed', async () => {
  const { digest } = await canonical(tarSource(plain));
  const others = [
    gzipSync(plain),
    zstdCompressSync(plain),
    await tarOf(
      { name: './', type: 'directory' },
      { name: './run.sh', text: '#!/bin/sh', mode: 0o755, uid: 7, mtime: new Date(1e12) },
      { name: 'app/main.js', text: 'main', mode: 0o644 },
    ),
    await tarOf(
      { name: 'run.sh', text: 'an older one', mode: 0o600 },
      { name: 'app/main.js', text: 'main', mode: 0o644 },
      { name: 'run.sh', text: '#!/bin/sh', mode: 0o755 },
    ),
  ];
  for (const bytes of others) {
    for (const chunkBytes of [1, 511, 1 << 20]) {
      expect(await canonical(tarSource(bytes, chunkBytes))).toMatchObject({ digest });
    }
  }
});

test('makes of a map of files what it makes of their tar', async () => {
  const files = { 'b.txt': 'content', 'a/deep.txt': 'Grüße' };
  const tar = await tarOf({ name: 'a/deep.txt', text: 'Grüße' }, { name: 'b.txt', text: 'content' });
  expect(await canonical({ kind: 'files', files })).toEqual(await canonical(tarSource(tar)));
});

test('keeps large files and long names whole', async () => {
  const name = `${'deep/'.repeat(40)}${'ä'.repeat(100)}.txt`;
  const text = 'x'.repeat(3_000_000);
  const { lines } = await canonical(tarSource(gzipSync(await tarOf({ name, text }))), { maxRatio: 5000 });
  expect(lines.at(-1)).toBe(`file 644 ${name} = ${text}`);
});

test('takes an empty archive', async () => {
  expect((await canonical(tarSource(await tarOf()))).lines).toEqual([]);
  expect((await canonical({ kind: 'files', files: {} })).lines).toEqual([]);
});

test('reads the names of PAX and GNU headers', async () => {
  const long = `${'d/'.repeat(60)}long-name`;
  const tar = await tarOf(
    paxHeader({ path: 'from-pax' }),
    rawHeader({ name: 'x', body: 'one' }),
    rawHeader({ name: '././@LongLink', type: 'L', body: `${long}\0` }),
    rawHeader({ name: 'y', body: 'two' }),
    rawHeader({ name: '././@LongLink', type: 'K', body: `${long}\0` }),
    rawHeader({ name: 'z', type: '2' }),
  );
  const { lines } = await canonical(tarSource(tar));
  expect(lines).toEqual(
    expect.arrayContaining(['file 644 from-pax = one', `file 644 ${long} = two`, `symlink 777 z -> ${long}`]),
  );
});

test('makes a file of a hard link, with the bytes that its target had then', async () => {
  const { lines } = await canonical(
    tarSource(
      await tarOf(
        { name: 'a', text: 'first' },
        { name: 'b', type: 'link', linkname: './a' },
        { name: 'a', text: 'second' },
      ),
    ),
  );
  expect(lines).toEqual(['file 644 a = second', 'file 644 b = first']);
});

test('keeps all twelve bits of every mode', async () => {
  const modes = Array.from({ length: 0o7777 + 1 }, (_, mode) => mode).filter(mode => mode % 7 === 0 || mode < 8);
  const parts = modes.flatMap(mode => [rawEntry(`d${mode}`, '5', mode), rawEntry(`f${mode}`, '0', mode)]);
  const { lines } = await canonical(tarSource(await tarOf(...parts)));
  const expected = modes.flatMap(mode => [
    `directory ${mode.toString(8)} d${mode}`,
    `file ${mode.toString(8)} f${mode} = `,
  ]);
  expect(lines.toSorted()).toEqual(expected.toSorted());
});

/** The writer of tars that the fixture uses has no mode of 0. */
function rawEntry(name: string, type: string, mode: number): Uint8Array {
  const block = rawHeader({ name, type });
  block.write(mode.toString(8).padStart(7, '0'), 100);
  block.write(' '.repeat(8), 148);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return block;
}
