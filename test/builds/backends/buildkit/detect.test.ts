// Detection where nothing is, or nobody answers; with a real BuildKit it is tested in test/clients.
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { detectBackends } from '../../../../src/builds/backend.ts';
import { createBuildkitBackend, detectBuildkit } from '../../../../src/builds/backends/buildkit/backend.ts';

let folder: string;
let misses: string[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veneer-detect-'));
  misses = [];
});

afterEach(() => rm(folder, { recursive: true }));

test('without BUILDKIT_HOST and without a socket nothing is there, and no command is started', async () => {
  const rootSocket = join(folder, 'none.sock');
  expect(await detect({ command: '/nowhere/buildctl', rootSocket })).toEqual([]);
  expect(misses).toEqual([`BuildKit: BUILDKIT_HOST is not set, and there is no ${rootSocket}`]);
});

test('a socket without a buildctl is reported', async () => {
  const rootSocket = join(folder, 'b.sock');
  const server = createServer();
  await new Promise<void>(resolve => server.listen(rootSocket, resolve));
  expect(await detect({ command: join(folder, 'buildctl'), rootSocket })).toEqual([]);
  expect(misses).toEqual([expect.stringMatching(/^BuildKit at unix:.*b\.sock does not answer: .*no such command/)]);
  await new Promise(resolve => server.close(resolve));
});

test('a BUILDKIT_HOST is the only one that is tried', async () => {
  const environment = { BUILDKIT_HOST: 'tcp://127.0.0.1:1', XDG_RUNTIME_DIR: folder };
  expect(await detect({ command: '/nowhere/buildctl', rootSocket: folder }, environment)).toEqual([]);
  expect(misses).toEqual([expect.stringMatching(/^BuildKit at tcp:\/\/127\.0\.0\.1:1 does not answer: /)]);
});

test('all that are found are given, in the order of the list', async () => {
  const named = (name: string) => createBuildkitBackend({ name, address: 'tcp://127.0.0.1:1', environment: {} });
  const late = async () => {
    await setImmediate();
    return named('first');
  };
  const options = { environment: {}, signal: new AbortController().signal, onMiss: () => undefined };
  const found = await detectBackends([late, async () => undefined, async () => named('last')], options);
  expect(found.map(({ name }) => name)).toEqual(['first', 'last']);
});

function detect(options: Parameters<typeof detectBuildkit>[0], environment: Readonly<Record<string, string>> = {}) {
  const { signal } = new AbortController();
  return detectBackends([detectBuildkit(options)], { environment, signal, onMiss: reason => misses.push(reason) });
}
