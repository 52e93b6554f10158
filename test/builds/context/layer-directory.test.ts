// A directory as a layer: the same files are the same bytes, regardless of who made them and when.
import { chmod, chown, mkdir, mkdtemp, rename, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { extract } from 'tar-stream';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { InvalidLayerDirectory, listLayer, packFiles, packLayer } from '../../../src/builds/context/layer-directory.ts';
import { digestOf } from '../../../src/oci/digest.ts';

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veneer-layer-'));
});

afterEach(() => rm(folder, { recursive: true }));

type Files = Readonly<Record<string, string>>;

async function write(name: string, files: Files): Promise<string> {
  const directory = join(folder, name);
  await mkdir(directory, { recursive: true });
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(directory, path)), { recursive: true });
    await writeFile(join(directory, path), text);
  }
  return directory;
}

const pack = async (directory: string) => buffer(await packLayer(directory));

/** `name mode content or target`, in the order of the tar. */
async function list(directory: string): Promise<readonly string[]> {
  const found: string[] = [];
  for await (const entry of Readable.from([await pack(directory)]).pipe(extract())) {
    const { name, type, mode = 0, linkname, uid, gid, mtime } = entry.header;
    expect([uid, gid, mtime?.getTime()]).toEqual([0, 0, 0]);
    const text = (await buffer(entry)).toString();
    found.push([name, type, mode.toString(8), linkname ?? text].join(' ').trim());
  }
  return found;
}

test('other times, owners and an other order of making give the same bytes', async () => {
  const files = { 'etc/ssl/ca.pem': 'ca', 'etc/a': 'a', 'etc-b': 'b', 'usr/bin/tool': 'tool' };
  const first = await write('first', files);
  const second = await write('second', Object.fromEntries(Object.entries(files).reverse()));
  for (const name of Object.keys(files)) {
    await utimes(join(second, name), 1, 2);
    if (process.getuid?.() === 0) await chown(join(second, name), 1000, 1000);
  }
  await utimes(join(second, 'etc'), 3, 4);
  expect(digestOf(await pack(second))).toBe(digestOf(await pack(first)));
});

test('the digest of some files stays the same for ever', async () => {
  const directory = await write('golden', { 'etc/ca.pem': 'a certificate\n' });
  await chmod(join(directory, 'etc'), 0o755);
  await chmod(join(directory, 'etc/ca.pem'), 0o644);
  expect(digestOf(await pack(directory))).toBe(
    'sha256:546bf007d4eef8fe2eb98959b75875684a43a8590954e614b5757de4c3e93a89',
  );
});

test('modes, links and marks of removal are kept as they are', async () => {
  const directory = await write('all', { 'bin/su': 'x', 'etc/.wh.motd': '' });
  await chmod(join(directory, 'bin'), 0o711);
  await chmod(join(directory, 'bin/su'), 0o4755);
  await chmod(join(directory, 'etc'), 0o755);
  await chmod(join(directory, 'etc/.wh.motd'), 0o600);
  await symlink('/usr/bin/../su', join(directory, 'bin/link'));
  expect(await list(directory)).toEqual([
    'bin directory 711',
    'bin/link symlink 777 /usr/bin/../su',
    'bin/su file 4755 x',
    'etc directory 755',
    'etc/.wh.motd file 600',
  ]);
});

test('a volume of Kubernetes is what its swapped link leads to, wherever it is mounted', async () => {
  const directory = await write('volume', {
    'etc/certs/..2030_01_01/ca.pem': 'one',
    'etc/certs/..2030_01_01/sub/b': 'b',
  });
  const plain = await write('plain', { 'etc/certs/ca.pem': 'one', 'etc/certs/sub/b': 'b' });
  const mount = join(directory, 'etc/certs');
  await symlink('..2030_01_01', join(mount, '..data'));
  await symlink('..data/ca.pem', join(mount, 'ca.pem'));
  await symlink('..data/sub', join(mount, 'sub'));
  expect(digestOf(await pack(directory))).toBe(digestOf(await pack(plain)));

  await write('volume', { 'etc/certs/..2030_02_02/ca.pem': 'two' });
  await symlink('..2030_02_02', join(mount, '..data_tmp'));
  await rename(join(mount, '..data_tmp'), join(mount, '..data'));
  expect(await list(directory)).toEqual([
    'etc directory 755',
    'etc/certs directory 755',
    'etc/certs/ca.pem file 644 two',
  ]);
});

test.each([['/etc'], ['../plain'], ['..'], ['plain']])('a link ..data to %s is a link like others', async target => {
  await write('plain', { secret: 's' });
  const directory = await write('here', {});
  await symlink(target, join(directory, '..data'));
  expect(await list(directory)).toEqual([`..data symlink 777 ${target}`]);
});

test('what no layer has is refused by its path', async () => {
  const directory = await write('socket', { a: 'a' });
  const server = createServer().listen(join(directory, 'sock'));
  await expect(packLayer(directory)).rejects.toThrow(`${join(directory, 'sock')} is a socket, a fifo or a device`);
  server.close();
});

test.each([
  ['more files', { maxEntries: 2, maxBytes: 100 }, 'more than 2 files and directories'],
  ['more bytes', { maxEntries: 100, maxBytes: 5 }, 'files of more than 5 bytes'],
])('%s than the limits allow are refused', async (_, limits, message) => {
  const directory = await write('large', { 'a/b': '123', c: '456' });
  await expect(packLayer(directory, limits)).rejects.toThrow(message);
  await expect(packLayer(directory, { maxEntries: 3, maxBytes: 6 })).resolves.toBeInstanceOf(ReadableStream);
});

test('a file that is another one when it is read breaks the tar', async () => {
  const directory = await write('changing', { a: 'before' });
  const files = await listLayer(directory);
  await writeFile(join(directory, 'a'), 'longer than before');
  await expect(buffer(packFiles(files))).rejects.toThrow(InvalidLayerDirectory);
});
