// The buildah backend with a real buildah.
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createBuildahBackend, detectBuildah } from '../../src/builds/backends/buildah/backend.ts';
import { backendContract } from '../contract/build-backend.ts';
import { type BackendPlace, type Bench, createBench } from '../support/build-bench.ts';
import { buildOnMovedBase, createBackendPlace } from './support/backend-place.ts';
import { findMissing } from './support/clients.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS, type Environment } from './support/environment.ts';
import { useMachineNetworks } from './support/machine-networks.ts';
import { findFreePort, run } from './support/process.ts';

const missing = findMissing([...ENVIRONMENT_COMMANDS, 'buildah']);
const SEVERAL = ['linux/arm64', 'linux/amd64'];
/** What cannot be there when a build begins, so that no cache has it. */
const unique = () => String(Math.random());

describe.skipIf(missing)(`buildah${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
  useMachineNetworks();

  backendContract(async () => await createPlace(await createEnvironment()), { hasRun: true, isMultiPlatform: true });

  describe('with a storage of its own', () => {
    let environment: Environment;
    let bench: Bench;

    beforeAll(async () => {
      environment = await createEnvironment();
      bench = createBench(await createPlace(environment));
    }, 180_000);

    afterAll(() => bench?.place.close(), 60_000);

    test.each([
      ['succeeded', 'RUN true', undefined, 'succeeded'],
      ['failed', 'RUN false', undefined, '"RUN false" ended with exit code 1'],
      ['was cancelled in a RUN', 'RUN echo ready; sleep 777', 'ready', 'enough'],
      ['was cancelled before a COPY', 'COPY file /file', 'STEP', 'enough'],
    ])('leaves no container, list or mount of a build that %s', async (_, steps, stopAt, result) => {
      const stop = new AbortController();
      const containerFile = `FROM ${bench.place.base}\nLABEL unique=${unique()}\n${steps}\n`;
      const order = await bench.prepare({ containerFile, platforms: SEVERAL, context: { file: unique() } });
      const building = bench.place.backend.build(order, {
        signal: stop.signal,
        report: ({ text, step }) => {
          const isThere = text === stopAt || (stopAt === 'STEP' && step?.includes('COPY file'));
          if (stopAt && isThere) stop.abort(new Error('enough'));
        },
      });
      const ended = building.then(
        () => 'succeeded',
        error => (error instanceof Error ? error.message : ''),
      );
      expect(await ended).toBe(result);
      expect(await buildah(environment, 'containers', '--quiet')).toBe('');
      expect(await buildah(environment, 'images', '--quiet', '--filter', 'reference=localhost/veneer-*')).toBe('');
      expect(await listMounts(environment)).toEqual([]);
    });

    test('stops at the first platform that fails', async () => {
      const { failure, events } = await bench.fail({
        containerFile: `FROM ${bench.place.base}\nLABEL unique=${unique()}\nRUN [ $(uname -m) != aarch64 ]\n`,
        platforms: SEVERAL,
      });
      expect(failure).toMatchObject({ platform: 'linux/arm64', step: 'RUN [ $(uname -m) != aarch64 ]' });
      expect(new Set(events.map(({ platform }) => platform))).toEqual(new Set(['linux/arm64']));
    });

    test('says why an index cannot be pushed', async () => {
      const { registry } = bench.place.guarded;
      const refused = await bench.fail({
        ...{ containerFile: `FROM ${bench.place.base}\n`, platforms: SEVERAL },
        image: `${registry}/builds/refused:1`,
      });
      expect(refused.failure).toMatchObject({ kind: 'build', reason: expect.stringMatching(/auth/) });
      const gone = await bench.fail({
        ...{ containerFile: `FROM ${bench.place.base}\n`, platforms: SEVERAL },
        image: `127.0.0.1:${await findFreePort()}/builds/gone:1`,
      });
      expect(gone.failure).toMatchObject({ kind: 'infrastructure', reason: expect.stringMatching(/refused/) });
    });

    test('builds on what the plan resolved, though the tag has moved', async () => {
      expect(await buildOnMovedBase(bench, SEVERAL)).toEqual(['VERSION=planned', 'VERSION=planned']);
    });

    test('takes layers from a registry into an empty storage', async () => {
      const cache = `${bench.place.registry}/builds/cache:1`;
      const containerFile = `FROM ${bench.place.base}\nRUN echo ${unique()} > /made; cat /proc/uptime >> /made\n`;
      const first = await bench.build({ containerFile, cache });
      await buildah(environment, 'rmi', '--all', '--force');
      const second = await bench.build({ containerFile, cache });
      expect(await second.pushed.images[0]?.readFile('/made')).toBe(await first.pushed.images[0]?.readFile('/made'));
    });

    test('runs two builds of equal orders side by side', async () => {
      const containerFile = `FROM ${bench.place.base}\nRUN echo ${unique()} > /made\n`;
      const builds = ['a', 'b'].map(name => {
        const image = `${bench.place.registry}/builds/beside:${name}`;
        return bench.build({ containerFile, platforms: SEVERAL, image });
      });
      for (const { pushed } of await Promise.all(builds)) expect(pushed.platforms).toEqual(SEVERAL);
    });

    describe.each([
      ['oci', false, ['cannot']],
      ['oci', true, ['reached']],
      ['chroot', false, ['cannot']],
      ['chroot', true, ['reached']],
    ] as const)('isolated by %s, with the network of the machine: %s', (isolation, hostNetwork, expected) => {
      test('a RUN sees its own processes alone, and reaches the loopback address where it may', async () => {
        const server = createServer((_, response) => response.end('reached')).listen(0, '127.0.0.1');
        await once(server, 'listening');
        const { port } = Object(server.address());
        const options = { ...storageOf(environment), isolation, hostNetwork, environment: process.env };
        const own = createBench({ ...bench.place, backend: createBuildahBackend({ name: 'buildah', ...options }) });
        // What the backend has not found out yet, it finds out now.
        const { pushed, events } = await own.build({
          containerFile: [
            `FROM ${bench.place.base}`,
            `LABEL unique=${unique()}`,
            `RUN (wget -q -O - http://127.0.0.1:${port}/ || echo cannot) > /reached`,
            "RUN cat /proc/[0-9]*/cmdline | tr '\\0' ' ' > /seen; ls -d /proc/[0-9]* | wc -l > /count\n",
          ].join('\n'),
        });
        server.close();
        const [image] = pushed.images;
        expect((await image?.readFile('/reached'))?.trim()).toBe(expected[0]);
        expect(await image?.readFile('/seen')).not.toMatch(/vitest/);
        expect(Number(await image?.readFile('/count'))).toBeLessThan(15);
        const notes = events.filter(({ kind, text }) => kind === 'note' && text?.startsWith('a RUN '));
        expect(notes).toHaveLength(isolation === 'oci' && !hostNetwork ? 0 : 1);
      });
    });

    test('a machine that does not let it RUN is not the fault of a Containerfile', async () => {
      const options = { ...storageOf(environment), runtime: '/bin/false', environment: process.env };
      const backend = createBuildahBackend({ name: 'buildah', ...options });
      await backend.listPlatforms(new AbortController().signal);
      const { spec } = await bench.prepare({ containerFile: `FROM ${bench.place.base}\nRUN true\n` });
      expect(backend.findUnsupportedReason(spec)).toMatch(/^line 2: no RUN works with it: /);
      expect(backend.listNotes?.()).toEqual([expect.stringMatching(/^no RUN works: /)]);
      const own = createBench({ ...bench.place, backend });
      const copied = await own.build({
        containerFile: `FROM ${bench.place.base}\nCOPY a /a\n`,
        context: { a: unique() },
      });
      expect(copied.pushed.platforms).toEqual(['linux/amd64']);
    });

    test('is found where it answers', async () => {
      const detect = (command: string) => {
        const misses: string[] = [];
        const options = { environment: process.env, signal: new AbortController().signal };
        const found = detectBuildah({ ...storageOf(environment), command })({
          ...options,
          onMiss: miss => misses.push(miss),
        });
        return found.then(backend => ({ kind: backend?.kind, misses }));
      };
      expect(await detect('buildah')).toEqual({ kind: 'buildah', misses: [] });
      expect(await detect('/nowhere/buildah')).toEqual({
        kind: undefined,
        misses: [expect.stringMatching(/^buildah: .*no such command/)],
      });
    });
  });
});

async function createPlace(environment: Environment): Promise<BackendPlace> {
  const options = { ...storageOf(environment), environment: process.env };
  return createBackendPlace(environment, createBuildahBackend({ name: 'buildah', ...options }));
}

function storageOf({ folder }: Environment) {
  return { root: join(folder, 'buildah'), runRoot: join(folder, 'buildah-run'), storageDriver: 'overlay' };
}

function buildah(environment: Environment, ...args: readonly string[]): Promise<string> {
  const { root, runRoot, storageDriver } = storageOf(environment);
  return run('buildah', ['--root', root, '--runroot', runRoot, '--storage-driver', storageDriver, ...args]);
}

/** Of containers: the storage has one mount of its own while it is in use. */
async function listMounts({ folder }: Environment): Promise<readonly string[]> {
  const mounts = await readFile('/proc/self/mounts', 'utf8');
  return mounts.split('\n').filter(line => line.includes(`${folder}/buildah/`) && line.includes('/merged '));
}
