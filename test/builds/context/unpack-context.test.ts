// A stored context on disk: what was packed is there, and nothing is anywhere else.
import { chown, lstat, mkdir, readdir, readFile, readlink, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { storeContext } from '../../../src/builds/context/store-context.ts';
import { InvalidContext } from '../../../src/builds/context/tree.ts';
import { unpackContext } from '../../../src/builds/context/unpack-context.ts';
import { digestOf } from '../../../src/oci/digest.ts';
import { ContentMismatch } from '../../../src/oci/verify.ts';
import { asNobody, NOBODY } from '../../support/as-nobody.ts';
import { makeFolder, openStore, rawHeader, streamOf, type TarPart, tarOf, tarSource } from './fixture.ts';

test('writes files, directories and links with their permissions and no time of day', async () => {
  const { folder } = await unpack(
    { name: 'bin/run', text: 'run', mode: 0o755 },
    { name: 'bin/also', type: 'symlink', linkname: 'run' },
    { name: 'empty', type: 'directory', mode: 0o750 },
    { name: `${'deep/'.repeat(30)}file`, text: 'x'.repeat(2_000_000) },
  );
  expect(await readFile(join(folder, 'bin/run'), 'utf8')).toBe('run');
  expect(await readlink(join(folder, 'bin/also'))).toBe('run');
  expect((await readFile(join(folder, 'deep/'.repeat(30), 'file'))).byteLength).toBe(2_000_000);
  expect((await stat(join(folder, 'bin/run'))).mode & 0o7777).toBe(0o755);
  expect((await stat(join(folder, 'empty'))).mode & 0o7777).toBe(0o750);
  for (const name of ['.', ...(await readdir(folder, { recursive: true }))]) {
    expect((await lstat(join(folder, name))).mtimeMs).toBe(0);
  }
});

test('gives every mode to what it writes, and names what only root could read with its own', async () => {
  const content = await openStore();
  const parts: readonly TarPart[] = [
    { name: 'su', text: 'x', mode: 0o4755 },
    { name: 'group', text: 'x', mode: 0o2711 },
    { name: 'shadow', text: 'x', mode: 0o020 },
    { name: 'shut', type: 'directory', mode: 0o1077 },
    { name: 'shut/file', text: 'x', mode: 0o640 },
    { name: 'fixed', type: 'directory', mode: 0o555 },
    { name: 'fixed/file', text: 'x', mode: 0o444 },
  ];
  const { digest } = await storeContext(tarSource(await tarOf(...parts)), content);
  const tar = await content.read(digest, 1024 * 1024);
  const reader: Pick<typeof content, 'open'> = { open: async () => streamOf(tar ?? new Uint8Array()) };
  const folder = await makeFolder();
  if (process.getuid?.() === 0) await chown(folder, NOBODY, NOBODY);
  const modes = await asNobody(() => unpackContext(reader, digest, folder));
  expect([...modes]).toEqual([
    ['shadow', 0o020],
    ['shut', 0o1077],
  ]);
  const written = async (name: string) => ((await stat(join(folder, name))).mode & 0o7777).toString(8);
  const names = ['su', 'group', 'shadow', 'shut', 'shut/file', 'fixed', 'fixed/file'];
  expect(await Promise.all(names.map(written))).toEqual(['4755', '2711', '420', '1577', '640', '555', '444']);
});

test('makes the permissions that the context has, whatever the umask', async () => {
  const before = process.umask(0o077);
  try {
    const { folder } = await unpack(
      { name: 'd', type: 'directory', mode: 0o777 },
      { name: 'd/f', text: '', mode: 0o666 },
    );
    expect((await stat(join(folder, 'd'))).mode & 0o777).toBe(0o777);
    expect((await stat(join(folder, 'd/f'))).mode & 0o777).toBe(0o666);
  } finally {
    process.umask(before);
  }
});

test('refuses bytes that are not those of the digest', async () => {
  const content = await openStore();
  const stored = await content.put(await tarOf({ name: 'a', text: 'x' }));
  const other = digestOf(Buffer.from('another'));
  const lying = { ...content, open: () => content.open(stored) };
  await expect(unpackContext(lying, other, await makeFolder())).rejects.toBeInstanceOf(ContentMismatch);
});

test('says which context is gone', async () => {
  const digest = digestOf(Buffer.from('gone'));
  await expect(unpackContext(await openStore(), digest, await makeFolder())).rejects.toThrow(digest);
});

test('writes over nothing that is there, and through no link', async () => {
  for (const kind of ['file', 'link'] as const) {
    const outside = join(await makeFolder(), 'outside');
    await writeFile(outside, 'untouched');
    const folder = await makeFolder();
    await (kind === 'file' ? writeFile(join(folder, 'a'), 'old') : symlink(outside, join(folder, 'a')));
    await expect(unpackRaw(folder, { name: 'a', text: 'new' })).rejects.toThrow('EEXIST');
    expect(await readFile(outside, 'utf8')).toBe('untouched');
  }
});

test.each<{ what: string; parts: readonly TarPart[] }>([
  { what: 'a name that climbs', parts: [{ name: '../outside', text: 'x' }] },
  { what: 'an absolute name', parts: [{ name: '/outside', text: 'x' }] },
  { what: 'a directory that climbs', parts: [{ name: '../outside', type: 'directory' }] },
  { what: 'a link that leads out', parts: [{ name: 'l', type: 'symlink', linkname: '../outside' }] },
  { what: 'a hard link', parts: [{ name: 'l', type: 'link', linkname: '/etc/hostname' }] },
  { what: 'a device', parts: [{ name: 'd', type: 'character-device' }] },
  { what: 'an unknown type', parts: [rawHeader({ name: 'u', type: 'V' })] },
])('refuses $what, though no such context is ever stored', async ({ parts }) => {
  const parent = await makeFolder();
  const folder = join(parent, 'context');
  await mkdir(folder);
  await expect(unpackRaw(folder, ...parts)).rejects.toBeInstanceOf(InvalidContext);
  expect(await readdir(parent, { recursive: true })).toEqual(['context']);
});

test('makes no link before all files are written', async () => {
  const folder = await makeFolder();
  const outside = await makeFolder();
  await expect(
    unpackRaw(folder, { name: 'l', type: 'symlink', linkname: 'd' }, { name: 'l/x', text: 'x' }),
  ).rejects.toThrow('ENOENT');
  expect([await readdir(folder), await readdir(outside)]).toEqual([[], []]);
});

/** A context on its regular way. */
async function unpack(...parts: readonly TarPart[]) {
  const content = await openStore();
  const { digest } = await storeContext(tarSource(await tarOf(...parts)), content);
  const folder = await makeFolder();
  await unpackContext(content, digest, folder);
  return { folder };
}

/** Any tar, as if it were a stored context. */
async function unpackRaw(folder: string, ...parts: readonly TarPart[]): Promise<void> {
  const content = await openStore();
  await unpackContext(content, await content.put(await tarOf(...parts)), folder);
}
