// The buildkit backend beyond the contract: layer caches, TLS, attestations, pinned bases, and daemons that die.
import { once } from 'node:events';
import { mkdtemp, readdir, stat } from 'node:fs/promises';
import { createServer as createWebServer } from 'node:http';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Backend, type BuildInput, detectBackends } from '../../src/builds/backend.ts';
import { createBuildkitBackend, detectBuildkit } from '../../src/builds/backends/buildkit/backend.ts';
import type { BuildkitConnection } from '../../src/builds/backends/buildkit/network.ts';
import { BackendUnavailable, BuildFailure } from '../../src/builds/execution.ts';
import type { ProgressEvent } from '../../src/builds/progress.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { formatPlatform, parsePlatform } from '../../src/oci/platform.ts';
import { createOrder, type OrderOptions } from '../support/build-order.ts';
import { readPushed } from '../support/pushed-image.ts';
import { startTlsBuildkit } from './support/buildkit-tls.ts';
import { clientPath, findMissing } from './support/clients.ts';
import { startBuildkit, unmountBelow } from './support/daemons.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS, type Environment } from './support/environment.ts';
import { run } from './support/process.ts';

const missing = findMissing(ENVIRONMENT_COMMANDS);
const command = clientPath('buildctl');

describe.skipIf(missing)(`a BuildKit daemon${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
  let environment: Environment;

  beforeAll(async () => {
    environment = await createEnvironment();
  }, 120_000);

  afterAll(() => environment?.close(), 60_000);

  describe('its attestations', () => {
    const platforms = ['linux/amd64', 'linux/arm64'];

    test.each(['min', 'max'])('are in the index where provenance is asked for: %s', async provenance => {
      const spec = { attestations: { provenance } };
      const { pushed } = await build({
        containerFile: `FROM ${environment.source}\nLABEL p=${provenance}\n`,
        platforms,
        spec,
      });
      expect(pushed.platforms).toEqual(platforms);
      expect(pushed.attestations).toEqual(['attestation-manifest', 'attestation-manifest']);
    });

    test('are not there where nothing asks for them, nor is a frame around a single image', async () => {
      expect((await build({ containerFile: `FROM ${environment.source}\n`, platforms })).pushed.attestations).toEqual(
        [],
      );
      const single = await build({ containerFile: `FROM ${environment.source}\n` });
      expect(single.pushed.mediaType).toBe(mediaTypes.ociManifest);
    });
  });

  test.each([
    ['gzip', { mode: 'gzip', level: 9, force: true }, /\+gzip$/],
    ['zstd', { mode: 'zstd', level: 3, force: true }, /\+zstd$/],
    ['estargz', { mode: 'estargz', force: true }, /\+gzip$/],
    ['uncompressed', { mode: 'uncompressed', force: true }, /tar$/],
  ])('packs layers as %s, those of the base too', async (_, compression, type) => {
    const image = `${environment.registry}/builds/packed:${compression.mode}`;
    const context = { a: 'a' };
    await build({ containerFile: `FROM ${environment.source}\nCOPY a /a\n`, context, image, spec: { compression } });
    const manifest = JSON.parse(await run(clientPath('crane'), ['manifest', '--insecure', image]));
    expect(manifest.layers.map(({ mediaType }: { mediaType: string }) => mediaType)).toEqual(
      manifest.layers.map(() => expect.stringMatching(type)),
    );
  });

  test('a second build with the layer cache of the first is cached, on a daemon that knows nothing', async () => {
    const options = {
      containerFile: `FROM ${environment.source}\nRUN date > /first\n`,
      image: `${environment.registry}/builds/cached:1`,
      cache: `${environment.registry}/builds/cache:1`,
    };
    const first = await build(options);
    expect(statesOf(first.events, 'RUN date > /first')).toEqual(['started', 'done']);
    const other = await environment.keep(
      startBuildkit(await mkdtemp(join(environment.folder, 'other-')), environment.registry),
    );
    const second = await build(options, createBackend({ address: other.socket }));
    expect(statesOf(second.events, 'RUN date > /first').at(-1)).toBe('cached');
    expect(await second.pushed.images[0]?.readFile('/first')).toBe(await first.pushed.images[0]?.readFile('/first'));
  });

  test('a tag that moved after the plan changes nothing: the pinned digest is built on', async () => {
    const base = `${environment.registry}/library/moving:1`;
    const planned = await build({ containerFile: `FROM ${environment.source}\nENV BASE=planned\n`, image: base });
    await build({ containerFile: `FROM ${environment.source}\nENV BASE=moved\n`, image: base });
    const containerFile = `FROM ${base}\nCOPY --from=${base} /bin/sh /copied\nLABEL a=1\n`;
    const { pushed } = await build({ containerFile, spec: { bases: { [base]: planned.digest } } });
    expect(pushed.images[0]?.env).toContain('BASE=planned');
  });

  test('what a build needs is in files that others cannot read', async () => {
    const order = await prepare({ containerFile: 'FROM scratch\nLABEL a=1\n', secrets: { one: 'value' } });
    await createBackend().build(order, { signal: new AbortController().signal, report: () => undefined });
    const own = join(order.directory, 'buildkit');
    const files = await readdir(own, { recursive: true, withFileTypes: true });
    const modes = await Promise.all(
      files.map(async file => (await stat(join(file.parentPath, file.name))).mode & 0o077),
    );
    expect((await stat(own)).mode & 0o077).toBe(0);
    expect(files.map(({ name }) => name)).toEqual(expect.arrayContaining(['config.json', 'metadata.json', '0']));
    expect(modes.filter((_, i) => files[i]?.name !== 'metadata.json').every(mode => mode === 0)).toBe(true);
    expect(await readdir(join(own, 'file'))).toEqual(['Containerfile']);
  });

  test('a network of the host is refused by a daemon that does not allow it', async () => {
    const failing = build({ containerFile: `FROM ${environment.source}\nRUN true\n`, spec: { network: 'host' } });
    await expect(failing).rejects.toThrow(/network\.host is not allowed/);
  });

  test('a step without a network has none', async () => {
    const containerFile = `FROM ${environment.source}\nRUN cat /proc/net/dev > /devices\n`;
    const { pushed } = await build({ containerFile, spec: { network: 'none' } });
    const devices = await pushed.images[0]?.readFile('/devices');
    expect(devices?.match(/^ *\w+:/gm)).toEqual([expect.stringContaining('lo:')]);
  });

  test('reaches the agent of its order from a step', async () => {
    const socket = join(environment.folder, 'agent.sock');
    const agent = createServer(connection => connection.destroy());
    await new Promise<void>(resolve => agent.listen(socket, resolve));
    const containerFile = `FROM ${environment.source}\nRUN --mount=type=ssh test -S "$SSH_AUTH_SOCK"\n`;
    await expect(build({ containerFile, ssh: { default: socket } })).resolves.toBeDefined();
    agent.close();
  });

  test('keeps builds apart that run at the same time', async () => {
    const names = ['a', 'b', 'c', 'd'];
    const built = await Promise.all(
      names.map(name =>
        build({ containerFile: `FROM ${environment.source}\nCOPY file /file\n`, context: { file: name } }),
      ),
    );
    expect(await Promise.all(built.map(({ pushed }) => pushed.images[0]?.readFile('/file')))).toEqual(names);
  });

  test('over TCP it wants TLS, and a client that it knows', async () => {
    const daemon = await environment.keep(startTlsBuildkit(environment.folder));
    const { pushed } = await build(
      { containerFile: `FROM ${environment.source}\nLABEL tls=1\n` },
      createBackend(daemon),
    );
    expect(pushed.platforms).toEqual(['linux/amd64']);
    const { signal } = new AbortController();
    const stranger = createBackend({ address: daemon.address, tls: { caPath: daemon.tls.caPath } });
    await expect(stranger.listPlatforms(signal)).rejects.toThrow(BackendUnavailable);
    const misled = createBackend({ ...daemon, tls: { ...daemon.tls, serverName: 'other.example' } });
    await expect(misled.listPlatforms(signal)).rejects.toThrow(/other\.example/);
  });

  test('that is killed in the middle of a build is a failure of the infrastructure', async () => {
    const folder = await mkdtemp(join(environment.folder, 'killed-'));
    const daemon = await environment.keep(startBuildkit(folder, environment.registry));
    const order = await prepare({ containerFile: `FROM ${environment.source}\nRUN echo ready; sleep 30\n` });
    let killed: Promise<void> | undefined;
    const report = ({ text }: ProgressEvent) => {
      if (text === 'ready') killed = daemon.kill();
    };
    const building = createBackend({ address: daemon.socket }).build(order, {
      signal: new AbortController().signal,
      report,
    });
    expect(await failureOf(building)).toMatchObject({
      kind: 'infrastructure',
      reason: expect.stringMatching(/^.{10,300}$/),
    });
    await killed;
    await unmountBelow(folder);
  });

  test('that is not there is a failure of the infrastructure, and no daemon to list platforms', async () => {
    const backend = createBackend({ address: `unix://${environment.folder}/nobody.sock` });
    const order = await prepare({ containerFile: 'FROM scratch\n' });
    const { signal } = new AbortController();
    const failure = await failureOf(backend.build(order, { signal, report: () => undefined }));
    expect(failure).toMatchObject({ kind: 'infrastructure', reason: expect.stringContaining('nobody.sock') });
    await expect(backend.listPlatforms(signal)).rejects.toThrow(/nobody\.sock/);
  });

  test('lists no more platforms than it is to build for', async () => {
    const platforms = ['linux/arm64/v8', 'linux/s390x', 'linux/arm/v7'].map(parsePlatform);
    const backend = createBackend({ platforms });
    const listed = await backend.listPlatforms(new AbortController().signal);
    expect(listed.map(formatPlatform)).toEqual(expect.arrayContaining(['linux/arm64', 'linux/arm/v7']));
    expect(listed.map(formatPlatform)).not.toContain('linux/amd64');
  });

  // The environment's gives its steps the network of the machine.
  test.each([
    [false, 'cannot'],
    [true, 'reached'],
  ])('a RUN reaches the loopback address of this machine where it may: %s', async (hostNetwork, expected) => {
    const server = createWebServer((_, response) => response.end('reached')).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = Object(server.address());
    const backend = createBackend({ hostNetwork });
    await backend.listPlatforms(new AbortController().signal);
    const containerFile = `FROM ${environment.source}\nRUN (wget -q -O - http://127.0.0.1:${port}/ || echo cannot) > /reached\n`;
    const { pushed, events } = await build({ containerFile }, backend);
    server.close();
    expect((await pushed.images[0]?.readFile('/reached'))?.trim()).toBe(expected);
    expect(backend.listNotes?.()).toHaveLength(1);
    expect(events.filter(({ text }) => text?.startsWith('a RUN has no network'))).toHaveLength(hostNetwork ? 0 : 1);
  });

  test('is detected where BUILDKIT_HOST or a socket says', async () => {
    const { signal } = new AbortController();
    const misses: string[] = [];
    const options = { signal, onMiss: (reason: string) => misses.push(reason) };
    const socket = environment.buildkit.replace('unix://', '');
    const [byHost] = await detectBackends([detectBuildkit({ command })], {
      ...options,
      environment: { PATH: process.env.PATH, BUILDKIT_HOST: environment.buildkit },
    });
    const [bySocket] = await detectBackends([detectBuildkit({ command, rootSocket: socket })], {
      ...options,
      environment: { PATH: process.env.PATH },
    });
    expect([byHost?.kind, bySocket?.kind]).toEqual(['buildkit', 'buildkit']);
    expect(misses).toEqual([]);
  });

  function createBackend(
    options: Partial<BuildkitConnection & Parameters<typeof createBuildkitBackend>[0]> = {},
  ): Backend {
    return createBuildkitBackend({
      name: 'lab',
      address: environment.buildkit,
      command,
      environment: process.env,
      ...options,
    });
  }

  function prepare(options: Omit<OrderOptions, 'image'> & { readonly image?: string }): Promise<BuildInput> {
    const tag = digestOf(Buffer.from(JSON.stringify(options))).slice(7, 23);
    return createOrder(environment.folder, { image: `${environment.registry}/builds/daemon:${tag}`, ...options });
  }

  async function build(options: Omit<OrderOptions, 'image'> & { readonly image?: string }, backend = createBackend()) {
    const events: ProgressEvent[] = [];
    const order = await prepare(options);
    const { signal } = new AbortController();
    const { digest } = await backend.build(order, { signal, report: entry => events.push(entry) });
    return { digest, events, pushed: await readPushed(order.target.name) };
  }
});

function statesOf(events: readonly ProgressEvent[], instruction: string) {
  const steps = events.filter(({ step, progress }) => step?.endsWith(instruction) && !progress);
  return steps.flatMap(({ kind, state }) => (kind === 'step' ? [state] : []));
}

async function failureOf(building: Promise<unknown>) {
  const error = await building.catch((error: unknown) => error);
  if (error instanceof BuildFailure) return error.failure;
  throw new Error('expected a BuildFailure', { cause: error });
}
