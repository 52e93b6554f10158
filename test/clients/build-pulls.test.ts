// Pulls that wait for builds: through a token while the build runs, by names that recipes build, from many clients at once.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readPushed } from '../support/pushed-image.ts';
import { type BuildsClient, containerFile, createBuildsClient } from './support/builds.ts';
import { clientPath, findMissing } from './support/clients.ts';
import { startDocker, startVeneer } from './support/daemons.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS, type Environment } from './support/environment.ts';
import { type Gate, startGate } from './support/gate.ts';
import { run, waitUntil } from './support/process.ts';
import { type Relay, startRelay } from './support/relay.ts';

const missing = findMissing([...ENVIRONMENT_COMMANDS, 'dockerd', 'docker']);
const MACHINES = { 'linux/amd64': 'x86_64', 'linux/arm64': 'aarch64' } as const;
const PLATFORMS = Object.keys(MACHINES);

describe.skipIf(missing)(`pulls of what is built${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
  let environment: Environment;
  let host = '';
  let gate: Gate;
  let relay: Relay;
  let builds: BuildsClient;

  beforeAll(async () => {
    environment = await createEnvironment();
    host = (await environment.keep(startDocker(environment.folder))).host;
    gate = await environment.keep(startGate());
    const recipes = await writeRecipes(join(environment.folder, 'recipes'));
    const backends = [{ kind: 'buildkit', address: environment.buildkit, hostNetwork: true }];
    const veneer = await environment.keep(
      startVeneer(environment.folder, environment.registry, { builds: { backends, recipes } }),
    );
    relay = await environment.keep(startRelay(veneer.address));
    builds = createBuildsClient(relay.address);
  }, 120_000);

  afterAll(() => environment?.close(), 60_000);

  test('docker pulls through the token while the build still runs, and gets what RUN made on each platform', async () => {
    const { requestId, targetImage } = await builds.submit({
      containerFile: containerFile(`FROM ${environment.source}`, `RUN ${gate.command('token')} && uname -m > /machine`),
      containerPlatform: PLATFORMS.join(),
    });
    await gate.arrive('token', PLATFORMS.length);
    const pulling = docker('pull', targetImage);
    await waitUntil(async () => expect(relay.count(new RegExp(`/wt/${requestId}/.*/manifests/`))).toBeGreaterThan(0));
    expect((await builds.list())[0]?.status).toBe('running');
    gate.open('token');
    expect(await pulling).toContain('Digest: sha256:');
    for (const [platform, machine] of Object.entries(MACHINES)) {
      await docker('pull', '--platform', platform, targetImage);
      const options = ['--rm', '--network', 'none', '--platform', platform];
      expect(await docker('run', ...options, targetImage, '/bin/sh', '-c', 'busybox cat /machine')).toBe(machine);
    }
  });

  test('twenty pulls of one recipe name begin one build, and all get the same image', async () => {
    const image = `${relay.address}/local/tools/jq:1.7`;
    const url = `http://${relay.address}/v2/local/tools/jq/manifests/1.7`;
    const pulls = [
      ...Array.from({ length: 8 }, () => crane('digest', image)),
      ...Array.from({ length: 2 }, async () => /sha256:\w+/.exec(await docker('pull', image))?.[0]),
      ...Array.from({ length: 5 }, async () => (await fetch(url)).headers.get('docker-content-digest')),
      ...Array.from({ length: 5 }, async () =>
        (await fetch(url, { method: 'HEAD' })).headers.get('docker-content-digest'),
      ),
    ];
    await waitUntil(async () => expect(relay.count(/\/local\/tools\/jq\/manifests\/1\.7$/)).toBe(pulls.length));
    await gate.arrive('jq-1.7', PLATFORMS.length);
    gate.open('jq-1.7');
    const digests = await Promise.all(pulls);
    const [build, ...others] = (await builds.list()).filter(({ targetImage }) => targetImage === image);
    expect(others).toEqual([]);
    expect(build).toMatchObject({ status: 'succeeded', starts: 1, platforms: PLATFORMS });
    expect(new Set(digests)).toEqual(new Set([build?.digest]));
    const { images } = await readPushed(image);
    expect(await Promise.all(images.map(one => one.readFile('/tool')))).toEqual(['jq 1.7\n', 'jq 1.7\n']);
  });

  test('a recipe for an upstream builds the tags that it lacks, and no other', async () => {
    const built = await readPushed(`${relay.address}/lab/library/bb:2`);
    expect(built.images.map(({ labels }) => labels.version)).toEqual(['2', '2']);
    const upstream = await crane('digest', `${relay.address}/lab/library/bb:1`);
    expect(upstream).toBe(await crane('digest', environment.source));
    const tags = await crane('ls', `${environment.registry}/library/bb`);
    expect(tags).toBe('1');
  });

  test('a name that no recipe matches is as missing as ever, and begins nothing', async () => {
    const before = await builds.list();
    await expect(crane('digest', `${relay.address}/local/other:1`)).rejects.toThrow('404');
    expect(await builds.list()).toEqual(before);
  });

  test('a build begins from a hosted image', async () => {
    await crane('copy', environment.source, `${relay.address}/local/team/base:1`);
    const { targetImage } = await builds.build({
      containerFile: containerFile('FROM local/team/base:1', 'ENV FROM_HOSTED=1', 'RUN uname -m > /machine'),
      containerPlatform: PLATFORMS.join(),
    });
    const { images } = await readPushed(targetImage);
    expect(images.map(({ env }) => env)).toEqual(images.map(() => expect.arrayContaining(['BASE=1', 'FROM_HOSTED=1'])));
    const machines = await Promise.all(images.map(image => image.readFile('/machine')));
    expect(machines).toEqual(Object.values(MACHINES).map(machine => `${machine}\n`));
  });

  test('an image whose base has a recipe of its own is built after its base', async () => {
    gate.open('base-3');
    const image = `${relay.address}/local/on-tools/base:3`;
    const { images } = await readPushed(image);
    const files = images.map(async one => [await one.readFile('/tool'), await one.readFile('/on-tool')]);
    expect(await Promise.all(files)).toEqual(images.map(() => ['base 3\n', 'base 3\n']));
    const [last, first] = await builds.list();
    expect([first?.targetImage, last?.targetImage]).toEqual([`${relay.address}/local/tools/base:3`, image]);
  });

  /** The recipes of the configuration. */
  async function writeRecipes(folder: string): Promise<readonly object[]> {
    const files = {
      tool: [
        `FROM ${environment.source}`,
        'ARG NAME',
        'ARG VERSION',
        `RUN ${gate.command('$NAME-$VERSION')} && echo $NAME $VERSION > /tool`,
      ],
      'on-tool': ['ARG NAME', 'ARG VERSION', 'FROM local/tools/$NAME:$VERSION', 'RUN busybox cp /tool /on-tool'],
      bb: [`FROM ${environment.source}`, 'ARG VERSION', 'LABEL version=$VERSION'],
    };
    await mkdir(folder);
    for (const [name, lines] of Object.entries(files)) await writeFile(join(folder, name), `${lines.join('\n')}\n`);
    const common = { args: { NAME: '{name}', VERSION: '{version}' }, platforms: PLATFORMS };
    return [
      { ...common, match: 'local/tools/{name}:{version}', containerFile: join(folder, 'tool') },
      { ...common, match: 'local/on-tools/{name}:{version}', containerFile: join(folder, 'on-tool') },
      { ...common, match: 'lab/library/{name}:{version}', containerFile: join(folder, 'bb') },
    ];
  }

  function crane(command: string, ...args: readonly string[]): Promise<string> {
    return run(clientPath('crane'), [command, '--insecure', ...args]);
  }

  function docker(...args: readonly string[]): Promise<string> {
    return run('docker', ['-H', host, ...args]);
  }
});
