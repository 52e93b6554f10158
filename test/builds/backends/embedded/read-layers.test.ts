import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { DEFAULT_EMBEDDED_LIMITS } from '../../../../src/builds/backends/embedded/archive.ts';
import {
  type DirectoryNode,
  findNode,
  formatPath,
  splitPath,
} from '../../../../src/builds/backends/embedded/file-system.ts';
import { readLayers } from '../../../../src/builds/backends/embedded/layers.ts';
import { InvalidStep } from '../../../../src/builds/backends/embedded/step.ts';
import { createSpool, type Spool } from '../../../../src/builds/context/spool.ts';
import { packTar, type TarFile } from '../../../support/build-images.ts';
import { plentyOfWork } from '../../../support/plenty-of-work.ts';

let spool: Spool;

beforeAll(async () => {
  spool = await createSpool();
});

afterAll(() => spool.close());

const READING = { limits: DEFAULT_EMBEDDED_LIMITS, signal: new AbortController().signal, work: plentyOfWork() };

async function read(...layers: readonly (readonly TarFile[])[]): Promise<DirectoryNode> {
  const tars = await Promise.all(layers.map(packTar));
  const packed = tars.map((tar, i) => ({ name: `${i}`, open: async () => ReadableStream.from([tar]) }));
  return readLayers(packed, { ...READING, spool });
}

function list(directory: DirectoryNode, above: readonly string[] = []): readonly string[] {
  return [...directory.children].flatMap(([name, node]) => {
    const path = [...above, name];
    return node.kind === 'directory' ? [`${formatPath(path)}/`, ...list(node, path)] : [formatPath(path)];
  });
}

async function readFile(root: DirectoryNode, path: string): Promise<string> {
  const node = findNode(root, splitPath(path));
  if (node?.kind !== 'file') throw new Error(`${path} is no file`);
  return text(node.open());
}

test('puts layers on top of each other', async () => {
  const root = await read(
    [
      { name: './' },
      { name: 'a', body: 'one' },
      { name: 'b', body: 'two' },
      { name: 'd/', type: 'directory', mode: 0o700 },
    ],
    [
      { name: './a', body: 'three' },
      { name: 'd/e/f', body: 'deep' },
    ],
  );
  expect(list(root)).toEqual(['/a', '/b', '/d/', '/d/e/', '/d/e/f']);
  expect(findNode(root, ['d'])).toMatchObject({ mode: 0o700 });
  expect(await readFile(root, 'a')).toBe('three');
  expect(await readFile(root, 'b')).toBe('two');
  expect(await readFile(root, 'd/e/f')).toBe('deep');
});

test('takes away what a layer hides, but not what it brings', async () => {
  const root = await read(
    [{ name: 'a' }, { name: 'd/x' }, { name: 'd/y' }, { name: 'o/old' }, { name: 'o/sub/old' }],
    [
      { name: '.wh.a' },
      { name: 'd/.wh.x' },
      { name: 'o/new' },
      { name: 'o/sub/new' },
      { name: 'o/.wh..wh..opq' },
      { name: '.wh.none' },
    ],
  );
  expect(list(root)).toEqual(['/d/', '/d/y', '/o/', '/o/sub/', '/o/sub/new', '/o/new']);
});

test('replaces files by directories and directories by files', async () => {
  const root = await read(
    [{ name: 'a' }, { name: 'b/c' }],
    [{ name: 'a/', type: 'directory' }, { name: 'a/d' }, { name: 'b' }],
  );
  expect(list(root)).toEqual(['/a/', '/a/d', '/b']);
});

test('follows links inside of the image only', async () => {
  const root = await read([
    { name: 'usr/lib/', type: 'directory' },
    { name: 'lib', type: 'symlink', linkname: 'usr/lib' },
    { name: 'up', type: 'symlink', linkname: '../../../usr' },
    { name: 'lib/x' },
    { name: 'up/y' },
    { name: '../../z' },
    { name: '/abs/olute' },
  ]);
  expect(list(root)).toEqual([
    '/usr/',
    '/usr/lib/',
    '/usr/lib/x',
    '/usr/y',
    '/lib',
    '/up',
    '/z',
    '/abs/',
    '/abs/olute',
  ]);
});

test('gives two names of one file the same bytes', async () => {
  const root = await read([
    { name: 'a', body: 'same', mode: 0o755 },
    { name: 'd/b', type: 'link', linkname: './a' },
  ]);
  expect(await readFile(root, 'd/b')).toBe('same');
});

test.each<[name: string, files: readonly TarFile[], message: RegExp]>([
  [
    'links in a circle',
    [{ name: 'a', type: 'symlink', linkname: 'b' }, { name: 'b', type: 'symlink', linkname: 'a' }, { name: 'a/x' }],
    /too many levels of symlinks/,
  ],
  ['a hard link to nothing', [{ name: 'a', type: 'link', linkname: 'nothing' }], /does not exist/],
  ['a file below a file', [{ name: 'a' }, { name: 'a/b' }], /not a directory/],
  ['directories that are too deep', [{ name: `${'a/'.repeat(300)}b` }], /deeper than/],
])('refuses %s', async (_, files, message) => {
  await expect(read(files)).rejects.toThrow(InvalidStep);
  await expect(read(files)).rejects.toThrow(message);
});

test('refuses what is no layer', async () => {
  const packed = [{ name: 'x', open: async () => ReadableStream.from([Buffer.from('no tar at all'.repeat(100))]) }];
  const reading = readLayers(packed, { ...READING, spool });
  await expect(reading).rejects.toThrow(/^the layer x cannot be read: /);
});
