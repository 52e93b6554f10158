// The backend where a builder is started first, or none is there: buildx is a script here.
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createDockerBackend, detectDocker } from '../../../../src/builds/backends/docker/backend.ts';
import { BackendUnavailable, BuildFailure } from '../../../../src/builds/execution.ts';
import { formatPlatform, parsePlatforms } from '../../../../src/oci/platform.ts';
import { plainOrder } from '../../../support/plain-order.ts';

const { signal } = new AbortController();
const environment = { PATH: process.env.PATH, HOME: '/nowhere' };

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veneer-buildx-'));
});

afterEach(() => rm(folder, { recursive: true }));

test('starts a builder that runs in a container, where it does not yet', async () => {
  const inactive = 'Driver: docker-container\\nStatus: inactive\\n';
  const running = 'Driver: docker-container\\nStatus: running\\nPlatforms: linux/amd64, linux/arm64\\n';
  const backend = await createBackend(
    `case "$*" in *--bootstrap*) printf '${running}';; *) printf '${inactive}';; esac`,
  );
  expect((await backend.listPlatforms(signal)).map(formatPlatform)).toEqual(['linux/amd64', 'linux/arm64']);
  expect(await readCalls()).toEqual(['--debug inspect mine', '--debug inspect mine --bootstrap']);
});

test('is for the platforms that were configured, of those that the builder has', async () => {
  const platforms = parsePlatforms('linux/arm64,linux/s390x');
  const backend = await createBackend("printf 'Driver: remote\\nPlatforms: linux/amd64, linux/arm64\\n'", platforms);
  expect((await backend.listPlatforms(signal)).map(formatPlatform)).toEqual(['linux/arm64']);
});

test('builds one platform at a time until it knows better', async () => {
  const backend = await createBackend("printf 'Driver: remote\\nPlatforms: linux/amd64\\n'");
  expect(backend.isMultiPlatform).toBe(false);
  await backend.listPlatforms(signal);
  expect(backend.isMultiPlatform).toBe(true);
});

test('a builder that does not run is unavailable, and a build on it a failure of the infrastructure', async () => {
  const backend = await createBackend("printf 'Driver: remote\\nStatus: inactive\\n'");
  await expect(backend.listPlatforms(signal)).rejects.toThrow(BackendUnavailable);
  const building = backend.build(plainOrder(), { signal, report: () => undefined });
  await expect(building).rejects.toThrow(BuildFailure);
  await expect(building).rejects.toMatchObject({ failure: { kind: 'infrastructure' } });
});

test('without a buildx there is none, and what would help is reported', async () => {
  const misses: string[] = [];
  const environment = { PATH: folder, DOCKER_CONFIG: folder };
  expect(await detectDocker()({ environment, signal, onMiss: miss => misses.push(miss) })).toBeUndefined();
  expect(misses).toEqual([expect.stringMatching(/^Docker: .*install the buildx plugin/)]);
});

async function createBackend(script: string, platforms?: ReturnType<typeof parsePlatforms>) {
  const path = join(folder, 'buildx');
  await writeFile(path, `#!/bin/sh\necho "$*" >> "${folder}/calls"\n${script}\n`);
  await chmod(path, 0o755);
  return createDockerBackend({ name: 'docker', builder: 'mine', command: [path], platforms, environment });
}

async function readCalls(): Promise<readonly string[]> {
  return (await readFile(join(folder, 'calls'), 'utf8')).trim().split('\n');
}
