// The docker backend with a real buildx: on a BuildKit that is a builder of its own, and on an engine with the classic image store.
import { mkdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createDockerBackend, detectDocker } from '../../src/builds/backends/docker/backend.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { backendContract } from '../contract/build-backend.ts';
import { type BackendPlace, type Bench, createBench } from '../support/build-bench.ts';
import { buildOnMovedBase, createBackendPlace } from './support/backend-place.ts';
import { clientPath, findMissing } from './support/clients.ts';
import { startDocker } from './support/daemons.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS, type Environment } from './support/environment.ts';
import { run } from './support/process.ts';

const missing = findMissing([...ENVIRONMENT_COMMANDS, 'buildx', 'docker', 'dockerd']);
const SEVERAL = ['linux/arm64', 'linux/amd64'];
const { signal } = new AbortController();

describe.skipIf(missing)(`docker${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
  describe('with the plugin, on a builder of its own', () => {
    backendContract(async () => await createRemotePlace(await createEnvironment(), undefined), {
      hasRun: true,
      isMultiPlatform: true,
    });
  });

  describe('with the program, on a builder of its own', () => {
    let bench: Bench;

    beforeAll(async () => {
      bench = createBench(await createRemotePlace(await createEnvironment(), [clientPath('buildx')]));
    }, 180_000);

    afterAll(() => bench?.place.close(), 60_000);

    test('builds on what the plan resolved, though the tag has moved', async () => {
      expect(await buildOnMovedBase(bench, SEVERAL)).toEqual(['VERSION=planned', 'VERSION=planned']);
    });

    test('attests the provenance where it is asked for', async () => {
      const spec = { attestations: { provenance: 'max' } };
      const { pushed } = await bench.build({ containerFile: `FROM ${bench.place.base}\n`, platforms: SEVERAL, spec });
      expect(pushed).toMatchObject({
        platforms: SEVERAL,
        attestations: ['attestation-manifest', 'attestation-manifest'],
      });
    });

    test('takes layers from a registry', async () => {
      const cache = `${bench.place.registry}/builds/cache:1`;
      const containerFile = `FROM ${bench.place.base}\nRUN cat /proc/uptime > /made\n`;
      await bench.build({ containerFile, cache });
      const { events } = await bench.build({ containerFile, cache });
      expect(events).toContainEqual(
        expect.objectContaining({ step: expect.stringContaining('importing cache manifest'), state: 'done' }),
      );
    });
  });

  describe('on an engine with the classic image store', () => {
    let environment: Environment;
    let host = '';
    let bench: Bench;

    beforeAll(async () => {
      environment = await createEnvironment();
      host = (await environment.keep(startDocker(environment.folder))).host;
      const variables = { ...process.env, DOCKER_CONFIG: await makeDockerFolder(environment) };
      const place = await createBackendPlace(
        environment,
        createDockerBackend({ name: 'docker', host, environment: variables }),
      );
      bench = createBench(place);
    }, 180_000);

    afterAll(() => bench?.place.close(), 60_000);

    test('takes one platform at a time', async () => {
      await bench.place.backend.listPlatforms(signal);
      expect(bench.place.backend.isMultiPlatform).toBe(false);
    });

    test('builds and pushes an image for another architecture, and leaves none in the engine', async () => {
      const { digest, pushed, events } = await bench.build({
        containerFile: `FROM ${bench.place.base}\nRUN uname -m > /machine\n`,
        platforms: ['linux/arm64'],
        // This engine has no bridge.
        spec: { network: 'none' },
      });
      expect(pushed).toMatchObject({ digest, mediaType: mediaTypes.dockerManifest, platforms: ['linux/arm64'] });
      expect(await pushed.images[0]?.readFile('/machine')).toBe('aarch64\n');
      expect(events).toContainEqual(
        expect.objectContaining({ kind: 'step', platform: 'linux/arm64', step: expect.stringContaining('RUN uname') }),
      );
      expect(await run('docker', ['-H', host, 'image', 'ls', '--quiet'])).toBe('');
    });

    test('pushes with credentials, and fails where they are wrong', async () => {
      const { registry, credentials } = bench.place.guarded;
      const order = { containerFile: `FROM ${bench.place.base}\n`, image: `${registry}/builds/guarded:1` };
      const { digest, pushed } = await bench.build({ ...order, credentials: { [registry]: credentials } });
      expect(pushed.digest).toBe(digest);
      const wrong = { [registry]: { ...credentials, password: 'canary-wrong' } };
      const { failure } = await bench.fail({ ...order, credentials: wrong });
      expect(failure.kind).toBe('build');
      expect(JSON.stringify(failure)).not.toContain('canary');
    });

    test('builds on what the plan resolved, though the tag has moved', async () => {
      expect(await buildOnMovedBase(bench)).toEqual(['VERSION=planned']);
    });

    test("builds with the host's network", async () => {
      const containerFile = `FROM ${bench.place.base}\nRUN true\n`;
      const { pushed } = await bench.build({ containerFile, spec: { network: 'host' } });
      expect(pushed.platforms).toEqual(['linux/amd64']);
    });

    test('says which step failed', async () => {
      const containerFile = `FROM ${bench.place.base}\nRUN exit 7\n`;
      const { failure } = await bench.fail({ containerFile, spec: { network: 'none' } });
      expect(failure).toMatchObject({ kind: 'build', platform: 'linux/amd64', step: 'RUN exit 7' });
    });

    test('does without what this engine lacks, and says so', async () => {
      const { events } = await bench.build({
        containerFile: `FROM ${bench.place.base}\n`,
        cache: `${bench.place.registry}/builds/cache:1`,
      });
      const notes = events.filter(({ kind }) => kind === 'note').map(({ text }) => text);
      expect(notes).toEqual([expect.stringContaining('no layers in a registry')]);
    });

    test('refuses what it cannot do', async () => {
      const reasonAgainst = async (spec: Readonly<Record<string, unknown>>) => {
        const order = await bench.prepare({ containerFile: 'FROM scratch\n', spec });
        return bench.place.backend.findUnsupportedReason(order.spec);
      };
      expect(await reasonAgainst({ attestations: { sbom: true } })).toContain('attestations');
      expect(await reasonAgainst({ compression: { mode: 'zstd' } })).toContain('gzip');
    });

    test('is found where it answers', async () => {
      const DOCKER_CONFIG = await makeDockerFolder(environment);
      const detect = async (DOCKER_HOST: string) => {
        const misses: string[] = [];
        const variables = { PATH: process.env.PATH, DOCKER_CONFIG, DOCKER_HOST };
        const backend = await detectDocker()({ environment: variables, signal, onMiss: miss => misses.push(miss) });
        return { kind: backend?.kind, misses };
      };
      expect(await detect(host)).toEqual({ kind: 'docker', misses: [] });
      expect(await detect('unix:///nowhere.sock')).toEqual({
        kind: undefined,
        misses: [expect.stringMatching(/^Docker: .*nowhere\.sock/)],
      });
    });
  });
});

async function createRemotePlace(
  environment: Environment,
  command: readonly string[] | undefined,
): Promise<BackendPlace> {
  const DOCKER_CONFIG = await makeDockerFolder(environment);
  const create = ['create', '--name', 'lab', '--driver', 'remote', environment.buildkit];
  await run(clientPath('buildx'), create, { env: { DOCKER_CONFIG } });
  const variables = { ...process.env, DOCKER_CONFIG };
  const backend = createDockerBackend({ name: 'docker', builder: 'lab', command, environment: variables });
  // What the builder can do is known from here on.
  await backend.listPlatforms(signal);
  return await createBackendPlace(environment, backend);
}

/** A user's own folder of docker: buildx is a plugin there. */
async function makeDockerFolder({ folder }: Environment): Promise<string> {
  const plugins = join(folder, 'dot-docker', 'cli-plugins');
  await mkdir(plugins, { recursive: true });
  await symlink(clientPath('buildx'), join(plugins, 'docker-buildx')).catch(ignoreExisting);
  return join(folder, 'dot-docker');
}

function ignoreExisting(error: Error & { readonly code?: string }): void {
  if (error.code !== 'EEXIST') throw error;
}
