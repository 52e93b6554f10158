// The owner of a data directory, with processes that are real: what one of them owns no other gets, until it is gone.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { DirectoryTaken, ownDirectory } from '../../src/state/owner.ts';

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
  const child = spawn(process.execPath, [join(import.meta.dirname, 'owning.ts'), directory], { stdio: 'pipe' });
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
  expect(() => ownDirectory(directory)).toThrow(DirectoryTaken);
  expect(() => ownDirectory(directory)).toThrow(directory);
});

test('what this process owns another one does not get', async () => {
  const owner = ownDirectory(directory);
  const child = startOwning();
  const [said, [exitCode]] = await Promise.all([text(child.stderr), once(child, 'exit')]);
  expect(said).toContain(`DirectoryTaken: another Veneer process is using ${directory}`);
  expect(exitCode).toBe(1);
  owner.release();
});

test('what this process owns already is refused', () => {
  const owner = ownDirectory(directory);
  expect(() => ownDirectory(directory)).toThrow(DirectoryTaken);
  owner.release();
  ownDirectory(directory).release();
});

test.each(['SIGKILL', 'SIGTERM'] as const)('is free at once when its owner ends by %s', async signal => {
  const child = await startOwner();
  child.kill(signal);
  await once(child, 'exit');
  ownDirectory(directory).release();
});

test('is free when its owner, still alive, lets go of it, also twice', async () => {
  const child = await startOwner();
  child.stdin.write('release\n');
  const [line] = await once(child.stdout, 'data');
  expect([String(line), child.exitCode]).toEqual(['released\n', null]);
  const owner = ownDirectory(directory);
  owner.release();
  owner.release();
  await startOwner();
});

test('leaves nothing that grows, and nothing that has to be cleaned up', async () => {
  const child = await startOwner();
  child.kill('SIGKILL');
  await once(child, 'exit');
  ownDirectory(directory).release();
  expect(await readdir(directory)).toEqual(['owner.db']);
});

test('fails as the file system does where the directory cannot be had', () => {
  expect(() => ownDirectory('/dev/null/data')).toThrow(/ENOTDIR/);
});
