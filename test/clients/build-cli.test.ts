// The commands as people run them, against a service that builds with BuildKit and by itself.
import { spawnSync } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { clientPath, findMissing, searchPath } from './support/clients.ts';
import { startVeneer } from './support/daemons.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS, type Environment } from './support/environment.ts';
import { run } from './support/process.ts';

const missing = findMissing(ENVIRONMENT_COMMANDS);
const PLATFORMS = 'linux/amd64,linux/arm64,linux/arm/v7';

describe.skipIf(missing)(`the commands for builds${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
  let environment: Environment;
  let veneer = '';
  let context = '';

  beforeAll(async () => {
    environment = await createEnvironment();
    const backends = [{ kind: 'buildkit', address: environment.buildkit }];
    veneer = (await environment.keep(startVeneer(environment.folder, environment.registry, { builds: { backends } })))
      .address;
    context = join(environment.folder, 'context');
    await mkdir(join(context, 'ignored'), { recursive: true });
    await writeFile(
      join(context, 'Containerfile'),
      `FROM ${environment.source}\nCOPY . /context/\nRUN uname -m > /machine\n`,
    );
    await writeFile(join(context, '.dockerignore'), 'ignored\n');
    await writeFile(join(context, 'greeting'), 'hello\n');
    await writeFile(join(context, 'ignored', 'secret'), 'not to be sent\n');
  }, 120_000);

  afterAll(() => environment?.close(), 60_000);

  const command = (...args: readonly string[]) =>
    run(process.execPath, ['src/main.ts', ...args, '--server', `http://${veneer}`]);

  const filesOf = async (image: string, platform: string) => {
    const folder = join(environment.folder, `${platform.replaceAll('/', '-')}.tar`);
    await run(clientPath('crane'), ['export', '--insecure', '--platform', platform, image, folder]);
    const read = (path: string) => run('tar', ['-xOf', folder, path]);
    return {
      machine: await read('machine'),
      greeting: await read('context/greeting'),
      list: await run('tar', ['-tf', folder]),
    };
  };

  test('build prints the name of an image that has the context, for every platform', async () => {
    const image = await command('build', context, '--platform', PLATFORMS, '-t', 'local/tools/hello:1');
    expect(image).toBe(`${veneer}/local/tools/hello:1`);
    const machines = [];
    for (const platform of PLATFORMS.split(',')) {
      const { machine, greeting, list } = await filesOf(image, platform);
      expect([greeting, list.includes('ignored')]).toEqual(['hello', false]);
      machines.push(machine);
    }
    expect(machines).toEqual(['x86_64', 'aarch64', 'armv7l']);
  });

  test('the same build again is there already, and says so as JSON', async () => {
    const args = ['build', context, '--platform', PLATFORMS, '-t', 'local/tools/hello:1', '--json'];
    expect(JSON.parse(await command(...args))).toMatchObject({ cached: true, succeeded: true });
  });

  test('a build that fails ends with 1, its platform, its step and the address of its log', async () => {
    await writeFile(
      join(environment.folder, 'Failing'),
      `FROM ${environment.source}\nRUN [ "$(uname -m)" != aarch64 ]\n`,
    );
    const failing = command(
      'build',
      '-f',
      join(environment.folder, 'Failing'),
      '--platform',
      'linux/amd64,linux/arm64',
    );
    await expect(failing).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        /linux\/arm64.*RUN \[ "\$\(uname -m\)".*\/v1alpha1\/builds\/bd-[0-9a-f]{16}_1\/logs/s,
      ),
    });
  });

  test('doctor --builds has the service build a RUN', async () => {
    const file = join(environment.folder, 'doctor.yaml');
    const builds = { backends: [{ kind: 'buildkit', address: environment.buildkit }] };
    const dataDir = join(environment.folder, 'doctor');
    await writeFile(file, JSON.stringify({ listen: veneer, dataDir, defaultUpstream: 'none', builds }));
    // Other faults of this machine, such as a mirror that is not set, end it with 2.
    const args = ['src/main.ts', 'doctor', '--builds', '--json', '--config', file];
    const { stdout } = spawnSync(process.execPath, args, { encoding: 'utf8', env: { PATH: searchPath() } });
    const { findings } = JSON.parse(stdout);
    expect(findings).toContainEqual({
      ...{ about: 'builds', level: 'ok', message: 'a RUN for linux/amd64 was built and pushed' },
    });
  });

  test('augment puts a directory and an environment on every platform', async () => {
    const layer = join(environment.folder, 'layer');
    await mkdir(join(layer, 'opt'), { recursive: true });
    await writeFile(join(layer, 'opt', 'added'), 'added\n');
    const image = await command('augment', environment.source, '--env', 'ADDED=yes', '--layer', layer);
    for (const platform of PLATFORMS.split(',')) {
      const config = await run(clientPath('crane'), ['config', '--insecure', '--platform', platform, image]);
      expect(JSON.parse(config).config.Env).toContain('ADDED=yes');
    }
    const tar = join(environment.folder, 'augmented.tar');
    await run(clientPath('crane'), ['export', '--insecure', '--platform', 'linux/arm64', image, tar]);
    expect(await run('tar', ['-xOf', tar, 'opt/added'])).toBe('added');
  });

  test('builds ls lists what was built, and builds log tells how', async () => {
    const list = await command('builds', 'ls');
    const id = /bd-[0-9a-f]{16}_1/.exec(list.split('\n').find(line => line.includes('hello:1')) ?? '')?.[0] ?? '';
    expect(await command('builds', 'log', id)).toContain('RUN uname -m > /machine');
  });
});
