// Folders of builds: private, and gone in the end.
import { chmod, chown, mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { createWorkspaces } from '../../../src/builds/executor/workspace.ts';
import { asNobody, NOBODY } from '../../support/as-nobody.ts';

async function makeFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'veneer-work-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  return folder;
}

test('removes at the start what a crash left', async () => {
  const directory = join(await makeFolder(), 'work');
  await mkdir(join(directory, 'bd-0123456789abcdef_1-abc', 'context'), { recursive: true });
  await writeFile(join(directory, 'bd-0123456789abcdef_1-abc', 'Containerfile'), 'FROM scratch');
  await createWorkspaces({ directory });
  expect(await readdir(directory)).toEqual([]);
});

test('gives work a folder of its own that only this user can read, and its result', async () => {
  const workspaces = await createWorkspaces({ directory: join(await makeFolder(), 'work') });
  const seen = await Promise.all(
    [1, 2].map(() =>
      workspaces.use('bd-0123456789abcdef_1', async path => ({ path, mode: (await stat(path)).mode & 0o777 })),
    ),
  );
  expect(seen.map(({ mode }) => mode)).toEqual([0o700, 0o700]);
  expect(new Set(seen.map(({ path }) => path)).size).toBe(2);
});

test('removes the folder of work that fails', async () => {
  const directory = await makeFolder();
  const workspaces = await createWorkspaces({ directory });
  const failing = workspaces.use('a', async path => {
    await writeFile(join(path, 'file'), '');
    throw new Error('no');
  });
  await expect(failing).rejects.toThrow('no');
  expect(await readdir(directory)).toEqual([]);
});

test('removes directories that nobody may write to', async () => {
  const directory = await makeFolder();
  if (process.getuid?.() === 0) await chown(directory, NOBODY, NOBODY);
  await asNobody(async () => {
    const workspaces = await createWorkspaces({ directory });
    await workspaces.use('a', async path => {
      await mkdir(join(path, 'context', 'fixed', 'below'), { recursive: true });
      await writeFile(join(path, 'context', 'fixed', 'below', 'file'), '');
      for (const name of ['context/fixed/below', 'context/fixed']) await chmod(join(path, name), 0o555);
    });
  });
  expect(await readdir(directory)).toEqual([]);
});
