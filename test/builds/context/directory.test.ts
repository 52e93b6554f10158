// Directories as contexts: what is left out, what is refused, and that no link is followed.
import { execFile } from 'node:child_process';
import { appendFile, chmod, mkdir, readdir, readlink, symlink, truncate, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { packDirectory } from '../../../src/builds/context/directory.ts';
import { DEFAULT_CONTEXT_LIMITS, InvalidContext } from '../../../src/builds/context/tree.ts';
import { asNobody } from '../../support/as-nobody.ts';
import { canonical, listTar, makeFolder, tarSource } from './fixture.ts';

test('packs what is there as a canonical tar', async () => {
  const folder = await folderOf({ 'b.txt': 'content', 'a/run.sh': '#!/bin/sh' });
  await chmod(join(folder, 'a/run.sh'), 0o755);
  await mkdir(join(folder, 'empty'));
  await symlink('a/run.sh', join(folder, 'link'));
  const tar = await buffer(await packDirectory(folder));
  expect((await listTar(tar)).map(({ line }) => line)).toEqual([
    'directory 755 a',
    'file 755 a/run.sh = #!/bin/sh',
    'file 644 b.txt = content',
    'directory 755 empty',
    'symlink 777 link -> a/run.sh',
  ]);
});

test('keeps all bits of modes', async () => {
  const folder = await folderOf({ su: 'x', shadow: 'x', 'tmp/f': 'x', group: 'x' });
  // Only root can read it without any.
  const shadow = process.getuid?.() === 0 ? 0 : 0o400;
  const modes = { su: 0o4755, shadow, tmp: 0o1777, group: 0o2470 };
  for (const [name, mode] of Object.entries(modes)) await chmod(join(folder, name), mode);
  const { lines } = await canonical({ kind: 'directory', path: folder });
  expect(lines).toEqual([
    'file 2470 group = x',
    `file ${shadow.toString(8)} shadow = x`,
    'file 4755 su = x',
    'directory 1777 tmp',
    'file 644 tmp/f = x',
  ]);
});

test.each([
  ['file', 'etc/shadow'],
  ['directory', 'private'],
])('names a %s that this user may not read', async (_, name) => {
  const folder = await folderOf({ 'etc/shadow': 'x', 'private/f': 'x' });
  await chmod(folder, 0o755);
  await chmod(join(folder, name), 0);
  const packed = async () => buffer(await packDirectory(folder));
  const refused = asNobody(packed);
  await expect(refused).rejects.toThrow(InvalidContext);
  await expect(refused).rejects.toThrow(`${JSON.stringify(join(folder, name))}: permission denied`);
});

test('makes the same context sent as a tar, packed or not, as on this machine', async () => {
  const folder = await folderOf({ 'b.txt': 'content', 'a/large': 'x'.repeat(3_000_000), '.dockerignore': 'ignored' });
  const { digest } = await canonical({ kind: 'directory', path: folder });
  for (const gzip of [true, false]) {
    const tar = await buffer(await packDirectory(folder, { gzip }));
    expect(await canonical(tarSource(tar), { maxRatio: 5000 })).toMatchObject({ digest });
  }
  expect((await buffer(await packDirectory(folder, { gzip: true }))).byteLength).toBeLessThan(100_000);
});

describe('leaves out', () => {
  test.each<{ what: string; rules: string; names: readonly string[]; left: readonly string[] }>([
    {
      what: 'what is named, with all below',
      rules: 'node_modules\n*.log',
      names: ['node_modules/a/b', 'x.log', 'y', 'd/z.log'],
      left: ['d', 'd/z.log', 'y'],
    },
    { what: 'what is named at any depth', rules: '**/*.log', names: ['x.log', 'd/y.log', 'd/z'], left: ['d', 'd/z'] },
    {
      what: 'all but exceptions, and keeps the way to them',
      rules: '*\n!src/keep',
      names: ['a', 'src/keep', 'src/drop'],
      left: ['src', 'src/keep'],
    },
    { what: 'nothing for comments and empty lines', rules: '# a\n\n', names: ['a'], left: ['.dockerignore', 'a'] },
    {
      what: 'by the case that is written',
      rules: 'readme',
      names: ['README', 'readme'],
      left: ['.dockerignore', 'README'],
    },
    {
      what: 'what a pattern with a slash names',
      rules: '/a/\nb/../c',
      names: ['a/x', 'b/x', 'c'],
      left: ['.dockerignore', 'b', 'b/x'],
    },
  ])('$what', async ({ rules, names, left }) => {
    const folder = await folderOf({ '.dockerignore': rules, ...Object.fromEntries(names.map(name => [name, ''])) });
    const names_ = await namesIn(folder);
    expect(names_.filter(name => left.includes('.dockerignore') || name !== '.dockerignore')).toEqual(left);
  });

  test('by the ignore file of the Containerfile alone, where there is one', async () => {
    const folder = await folderOf({
      '.dockerignore': 'a',
      'build/App.dockerignore': 'b',
      ...{ a: '', b: '', 'build/App': 'FROM scratch' },
    });
    expect(await namesIn(folder, 'build/App')).toEqual(['a', 'build', 'build/App', 'build/App.dockerignore']);
    expect(await namesIn(folder, 'Containerfile')).not.toContain('a');
  });

  test('what cannot be read, where it is ignored', async () => {
    const folder = await folderOf({ '.dockerignore': 'data\nlink', keep: '' });
    await fifo(join(folder, 'data'));
    await symlink('/etc', join(folder, 'link'));
    expect(await namesIn(folder)).toEqual(['.dockerignore', 'keep']);
  });
});

test('follows no link', async () => {
  const outside = await folderOf({ secret: 'secret' });
  const folder = await folderOf({ 'd/x': '' });
  await symlink('d', join(folder, 'inside'));
  expect(await namesIn(folder)).toEqual(['d', 'd/x', 'inside']);
  await symlink(outside, join(folder, 'escape'));
  await expect(packDirectory(folder)).rejects.toThrow(/"escape".*absolute/);
});

test('refuses sockets and fifos, and names them', async () => {
  const withFifo = await folderOf({ a: '' });
  await fifo(join(withFifo, 'pipe'));
  await expect(packDirectory(withFifo)).rejects.toThrow(join(withFifo, 'pipe'));
  const withSocket = await folderOf({ a: '' });
  const server = createServer().listen(join(withSocket, 'sock'));
  await expect(packDirectory(withSocket)).rejects.toThrow(join(withSocket, 'sock'));
  server.close();
});

test('refuses a pattern that cannot be read', async () => {
  const folder = await folderOf({ '.dockerignore': '[', a: '' });
  await expect(packDirectory(folder)).rejects.toBeInstanceOf(InvalidContext);
});

test('stays within the limits', async () => {
  const folder = await folderOf({ a: 'x'.repeat(100), b: 'x'.repeat(100) });
  await expect(packDirectory(folder, { limits: { ...DEFAULT_CONTEXT_LIMITS, maxBytes: 150 } })).rejects.toThrow('150');
  await expect(packDirectory(folder, { limits: { ...DEFAULT_CONTEXT_LIMITS, maxEntries: 1 } })).rejects.toThrow(
    '1 entr',
  );
});

test.each([
  ['grows', (path: string) => appendFile(path, 'more')],
  ['shrinks', (path: string) => truncate(path, 3)],
  [
    'becomes a link',
    async (path: string) => {
      await promisify(execFile)('rm', [path]);
      await symlink('/etc/hostname', path);
    },
  ],
])('breaks the stream, with the path, where a file %s before it is read', async (_, change) => {
  const folder = await folderOf({ large: 'x'.repeat(2_000_000), z: 'content' });
  const stream = await packDirectory(folder);
  await change(join(folder, 'z'));
  await expect(buffer(stream)).rejects.toThrow(/changed|ELOOP/);
});

test('closes what it reads when its reader leaves', async () => {
  const folder = await folderOf({ large: 'x'.repeat(8_000_000) });
  const reader = (await packDirectory(folder)).getReader();
  await reader.read();
  expect(await openFilesIn(folder)).toEqual([join(folder, 'large')]);
  await reader.cancel();
  expect(await openFilesIn(folder)).toEqual([]);
});

test('says which directory is not there', async () => {
  await expect(packDirectory('/no/such/directory')).rejects.toThrow('/no/such/directory');
});

async function folderOf(files: Readonly<Record<string, string>>): Promise<string> {
  const folder = await makeFolder();
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await writeFile(join(folder, name), text);
  }
  return folder;
}

async function namesIn(folder: string, containerFile?: string): Promise<readonly string[]> {
  const entries = await listTar(await buffer(await packDirectory(folder, { containerFile })));
  return entries.map(({ header }) => header.name.replace(/\/$/, ''));
}

async function fifo(path: string): Promise<void> {
  await promisify(execFile)('mkfifo', [path]);
}

async function openFilesIn(folder: string): Promise<readonly string[]> {
  const descriptors = await readdir('/proc/self/fd');
  const paths = await Promise.all(descriptors.map(fd => readlink(join('/proc/self/fd', fd)).catch(() => '')));
  return paths.filter(path => path.startsWith(folder));
}
