// Directories and files of this machine as layers: whole as they were at one moment, or not at all.
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { packLayer } from '../../src/builds/context/layer-directory.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { createRuleLayerStore, type RuleLayerStore } from '../../src/rules/layers/layer-store.ts';
import { createLocalLayers } from '../../src/rules/layers/local-layers.ts';
import type { LocalLayer } from '../../src/rules/rules.ts';
import { createMemoryStore } from '../support/memory-records.ts';

const LIMITS = { maxUnpackedBytes: 100_000, maxRatio: 200, ratioFreeBytes: 1000 };

let folder: string;
let layerStore: RuleLayerStore;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veneer-local-'));
  layerStore = await createRuleLayerStore({
    directory: join(folder, 'rules'),
    records: createMemoryStore(),
    now: () => new Date(),
  });
  await mkdir(join(folder, 'ca'));
  await writeFile(join(folder, 'ca/ca.pem'), 'first');
});

afterEach(async () => {
  await layerStore.close();
  await rm(folder, { recursive: true });
});

const place = (name: string) => join(folder, name);
const bytesOf = async (name: string) => new Response(await packLayer(place(name))).bytes();

/** `whileRead` is called with the number of the reading, before its bytes are read. */
function read(layer: LocalLayer, whileRead: (reading: number) => Promise<void> = async () => {}) {
  let reading = 0;
  const put: RuleLayerStore['put'] = async body => {
    reading += 1;
    await whileRead(reading);
    return layerStore.put(body);
  };
  const layers = createLocalLayers({ layerStore: { ...layerStore, put }, limits: LIMITS, now: () => new Date() });
  return layers.read(layer);
}

test('a directory is an unpacked tar on the shelf', async () => {
  const { described } = await read({ kind: 'directory', path: place('ca') });
  const tar = await bytesOf('ca');
  const digest = digestOf(tar);
  expect(described).toEqual({
    layer: { digest, size: tar.byteLength, diffId: digest, compression: 'none' },
    source: { kind: 'shelf', digest, size: tar.byteLength },
  });
  expect(await new Response(await layerStore.open(digest)).bytes()).toEqual(tar);
});

test.each(['none', 'gzip'] as const)('a file is what it is, packed by %s', async compression => {
  const tar = await bytesOf('ca');
  const bytes = compression === 'gzip' ? gzipSync(tar) : tar;
  await writeFile(place('layer'), bytes);
  const { described } = await read({ kind: 'file', path: place('layer') });
  expect(described.layer).toEqual({
    ...{ digest: digestOf(bytes), size: bytes.byteLength, compression },
    diffId: digestOf(tar),
  });
});

test('a link to the directory is followed, and one within stays a link', async () => {
  await symlink('ca.pem', place('ca/link'));
  await symlink('ca', place('current'));
  const { described } = await read({ kind: 'directory', path: place('current') });
  expect(described.layer.digest).toBe(digestOf(await bytesOf('ca')));
});

test.each([
  ['a directory that is not there', 'directory', 'none', 'there is no '],
  ['a file that is not there', 'file', 'none', 'there is no '],
  ['a file in place of a directory', 'directory', 'ca/ca.pem', 'is not a directory: use "file" for a tar'],
  ['a directory in place of a file', 'file', 'ca', 'is not a file: use "directory" for a folder'],
  ['an empty directory', 'directory', 'empty', 'is empty: is a mount missing?'],
  ['a file that is no tar', 'file', 'text', 'not a tar'],
  ['an empty file', 'file', 'nothing', 'it is empty'],
  ['a file that was cut', 'file', 'cut', 'corrupt or truncated'],
  ['a file that unpacks to too much', 'file', 'bomb', 'beyond the limit'],
  ['a file that is too large', 'file', 'large', 'is larger than 100000 bytes'],
  ['a directory that is too large', 'directory', 'full', 'has files of more than 100000 bytes'],
  ['a socket', 'directory', 'run', 'is a socket, a fifo or a device, which no layer has'],
] as const)('%s is refused by its path', async (_, kind, name, message) => {
  const tar = await bytesOf('ca');
  await mkdir(place('empty'));
  await mkdir(place('full'));
  await mkdir(place('run'));
  const socket = createServer().listen(place('run/app.sock'));
  await once(socket, 'listening');
  await writeFile(place('text'), 'no tar '.repeat(100));
  await writeFile(place('nothing'), '');
  await writeFile(place('cut'), gzipSync(tar).subarray(0, 60));
  await writeFile(place('bomb'), gzipSync(Buffer.concat([tar, Buffer.alloc(90_000)])));
  await writeFile(place('large'), Buffer.alloc(100_001));
  await writeFile(place('full/large'), Buffer.alloc(100_001));
  const failed = expect(read({ kind, path: place(name) })).rejects;
  await failed.toMatchObject({ name: 'InvalidLayer', message: expect.stringContaining(message) });
  await expect(read({ kind, path: place(name) })).rejects.toThrow(place(name));
  socket.close();
});

test.each([
  ['a file of another size', () => writeFile(place('ca/ca.pem'), 'second and longer')],
  ['a file of the same size', () => writeFile(place('ca/ca.pem'), 'later')],
  ['a file that comes', () => writeFile(place('ca/new.pem'), 'new')],
  ['a file that goes', () => rm(place('ca/ca.pem'))],
  [
    'a file in the place of another',
    async () => {
      await writeFile(place('other'), 'other');
      await rename(place('other'), place('ca/ca.pem'));
    },
  ],
])('with %s while it is read, a directory is read again', async (_, change) => {
  await writeFile(place('ca/z.pem'), 'stays');
  const layer = { kind: 'directory', path: place('ca') } as const;
  const { described } = await read(layer, async reading => (reading === 1 ? void (await change()) : undefined));
  expect(described.layer.digest).toBe(digestOf(await bytesOf('ca')));
});

test.each(['directory', 'file'] as const)('a %s that changes again and again is refused', async kind => {
  await writeFile(place('layer'), await bytesOf('ca'));
  const path = kind === 'directory' ? place('ca') : place('layer');
  const change = async (reading: number) => {
    if (kind === 'file') await writeFile(path, Buffer.concat([await readFile(path), Buffer.alloc(512)]));
    else await writeFile(join(path, `${reading}`), 'x');
  };
  await expect(read({ kind, path }, change)).rejects.toThrow('changes again and again while it is read');
});

test('what is wrong with the layerStore is no fault of the layer', async () => {
  const failure = new Error('the disk is full');
  const broken = read({ kind: 'directory', path: place('ca') }, () => Promise.reject(failure));
  await expect(broken).rejects.toBe(failure);
});
