// The owner of a data directory, with processes that are real: what one of them owns no other gets, until it is gone.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { DirectoryLocked, joinDirectory, lockDirectory, StateFault } from '../../src/state/data-directory.ts';
import { createSqliteStore } from '../../src/state/sqlite.ts';

let parent: string;
let directory: string;
let children: ChildProcess[];

beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), 'veneer-owner-'));
  directory = join(parent, 'not', 'made', 'yet');
  children = [];
});

afterEach(async () => {
  for (const child of children) child.kill('SIGKILL');
  await rm(parent, { recursive: true });
});

function startOwning() {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'lock-holder.ts'), directory], { stdio: 'pipe' });
  children.push(child);
  return child;
}

async function startOwner() {
  const child = startOwning();
  const [line] = await once(child.stdout, 'data');
  expect(String(line)).toBe('owned\n');
  return child;
}

test('what another process owns is refused, by an error that names the directory', async () => {
  await startOwner();
  expect(() => lockDirectory(directory)).toThrow(DirectoryLocked);
  expect(() => lockDirectory(directory)).toThrow(directory);
});

test('what this process owns another one does not get', async () => {
  const owner = lockDirectory(directory);
  const child = startOwning();
  const [said, [exitCode]] = await Promise.all([text(child.stderr), once(child, 'exit')]);
  expect(said).toContain(`DirectoryLocked: another Veneer process is using ${directory}`);
  expect(exitCode).toBe(1);
  owner.release();
});

test('what this process owns already is refused', () => {
  const owner = lockDirectory(directory);
  expect(() => lockDirectory(directory)).toThrow(DirectoryLocked);
  owner.release();
  lockDirectory(directory).release();
});

test.each(['SIGKILL', 'SIGTERM'] as const)('is free at once when its owner ends by %s', async signal => {
  const child = await startOwner();
  child.kill(signal);
  await once(child, 'exit');
  lockDirectory(directory).release();
});

test('is free when its owner, still alive, lets go of it, also twice', async () => {
  const child = await startOwner();
  child.stdin.write('release\n');
  const [line] = await once(child.stdout, 'data');
  expect([String(line), child.exitCode]).toEqual(['released\n', null]);
  const owner = lockDirectory(directory);
  owner.release();
  owner.release();
  await startOwner();
});

describe('a lock that was removed by hand', () => {
  const records = () => join(directory, 'records.db');

  test('lets nobody in while its owner lives and has the records open', async () => {
    const child = await startOwner();
    child.stdin.write('open\n');
    expect(String((await once(child.stdout, 'data'))[0])).toBe('opened\n');
    await rm(join(directory, 'owner.db'));
    // Also not at a second try, which finds the lock that the first one made.
    for (let time = 0; time < 2; time += 1) expect(() => lockDirectory(directory)).toThrow(DirectoryLocked);
    child.kill('SIGKILL');
    await once(child, 'exit');
    lockDirectory(directory).release();
  });

  test('is no matter where nobody has the records open, nor where they are of an older release', async () => {
    const store = createSqliteStore({ path: records() });
    await store.put('tags', 'a', Uint8Array.of(1));
    await store.close();
    lockDirectory(directory).release();
    await rm(join(directory, 'owner.db'));
    lockDirectory(directory).release();
  });

  test('a program that reads the records keeps out nobody whose lock is there', async () => {
    lockDirectory(directory).release();
    const store = createSqliteStore({ path: records() });
    lockDirectory(directory).release();
    await store.close();
  });
});

test('is not free while a process works in it on behalf of an owner that is gone', () => {
  const owner = lockDirectory(directory);
  const members = [joinDirectory(directory), joinDirectory(directory)];
  owner.release();
  members[0]?.release();
  expect(() => lockDirectory(directory)).toThrow(DirectoryLocked);
  members[1]?.release();
  lockDirectory(directory).release();
});

test('leaves nothing that grows, and nothing that has to be cleaned up', async () => {
  const child = await startOwner();
  child.kill('SIGKILL');
  await once(child, 'exit');
  lockDirectory(directory).release();
  expect(await readdir(directory)).toEqual(['owner.db']);
});

test('fails as the file system does where the directory cannot be had', () => {
  expect(() => lockDirectory('/dev/null/data')).toThrow(/ENOTDIR/);
});

test.each(['/proc/veneer', '/proc/self/veneer/data'])('%s, which nobody can make, is refused at once', path => {
  expect(() => lockDirectory(path)).toThrow(StateFault);
  expect(() => lockDirectory(path)).toThrow(`cannot use ${path}: `);
});

const NOBODY = 65_534;

/** What root may do says nothing: for the time of the work this process is somebody else. */
function asNobody(work: () => void): void {
  const isRoot = process.geteuid?.() === 0;
  if (isRoot) process.seteuid?.(NOBODY);
  try {
    work();
  } finally {
    if (isRoot) process.seteuid?.(0);
  }
}

test('a directory that this user may not write to is reported with the user and what would help', async () => {
  await chmod(parent, 0o755);
  const locked = join(parent, 'locked');
  await mkdir(locked, { mode: 0o555 });
  await chmod(locked, 0o555);
  asNobody(() => {
    const user = process.geteuid?.();
    const remedy = (path: string) => `give it to that user (chown -R ${user} ${path}), or name another directory`;
    const records = join(locked, 'records.db');
    for (const [path, use] of [
      [locked, () => lockDirectory(locked)],
      [records, () => createSqliteStore({ path: records })],
    ] as const) {
      expect(use).toThrow(`cannot use ${path}: the user ${user} may not write to it (`);
      expect(use).toThrow(remedy(path));
    }
    expect(() => lockDirectory(join(locked, 'data'))).toThrow(
      `cannot use ${join(locked, 'data')}: the user ${user} may`,
    );
  });
});

test('a file in it that this user may not write to is reported in the same way', async () => {
  await chmod(parent, 0o755);
  const open = join(parent, 'open');
  await mkdir(open);
  await createSqliteStore({ path: join(open, 'records.db') }).close();
  await chmod(join(open, 'records.db'), 0o444);
  await chmod(open, 0o777);
  asNobody(() => {
    const path = join(open, 'records.db');
    expect(() => createSqliteStore({ path })).toThrow(
      `cannot use ${path}: the user ${process.geteuid?.()} may not write`,
    );
  });
});
