// Builders that an earlier process left at work: ended, and nobody else is.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { createWorkspaces, endLeftoverProcesses } from '../../../src/builds/executor/workspace.ts';

/** For its input. It starts no other program: while that is loaded, its environment cannot be read. */
const WAITING = 'echo ready; read line';

test('ends what a crash left at work in a folder of builds', async () => {
  const directory = await makeFolder();
  const left = await start(WAITING, join(directory, 'bd-1/home'));
  const exit = once(left, 'exit');
  await createWorkspaces({ directory });
  expect(await exit).toEqual([null, 'SIGTERM']);
});

test('kills what does not heed that in time', async () => {
  const directory = await makeFolder();
  const left = await start('trap "" TERM; echo ready; while :; do sleep 0.01; done', join(directory, 'home'));
  const exit = once(left, 'exit');
  await endLeftoverProcesses(directory, { graceMs: 50 });
  expect(await exit).toEqual([null, 'SIGKILL']);
});

test('lets everybody else live', async () => {
  const directory = await makeFolder();
  const others = await Promise.all([`${directory}-other`, directory, tmpdir()].map(home => start(WAITING, home)));
  await endLeftoverProcesses(directory);
  expect(others.map(({ exitCode, signalCode }) => [exitCode, signalCode])).toEqual(others.map(() => [null, null]));
});

/** A process that has said that it is ready; gone with the test. */
async function start(script: string, home: string): Promise<ChildProcess> {
  const child = spawn('/bin/sh', ['-c', script], { env: { PATH: '/usr/bin:/bin', HOME: home } });
  onTestFinished(() => void child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  return child;
}

async function makeFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'veneer-left-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const directory = join(folder, 'work');
  await mkdir(directory);
  return directory;
}
