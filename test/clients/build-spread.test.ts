// One build spread over two real builders, each for its platforms, and joined into one index.
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { formatPlatform, type Platform } from '../../src/oci/platform.ts';
import { clientPath, findMissing } from './support/clients.ts';
import { startVeneer } from './support/daemons.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS, type Environment } from './support/environment.ts';
import { useMachineNetworks } from './support/machine-networks.ts';
import { run } from './support/process.ts';

const missing = findMissing([...ENVIRONMENT_COMMANDS, 'buildah']);

describe.skipIf(missing)(`a build on two builders${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
  useMachineNetworks();

  let environment: Environment;
  let veneer = '';

  beforeAll(async () => {
    environment = await createEnvironment();
    const root = {
      root: join(environment.folder, 'ba'),
      runRoot: join(environment.folder, 'br'),
      storageDriver: 'overlay',
    };
    const backends = [
      { kind: 'buildkit', address: environment.buildkit, platforms: ['linux/amd64'] },
      { kind: 'buildah', ...root, platforms: ['arm64', 'arm'] },
    ];
    veneer = (await environment.keep(startVeneer(environment.folder, environment.registry, { builds: { backends } })))
      .address;
  }, 120_000);

  afterAll(() => environment?.close(), 60_000);

  test('tells what each can build', async () => {
    const { serviceInfo } = await ask('/service-info');
    expect(serviceInfo.builders).toEqual([
      {
        name: 'buildkit',
        kind: 'buildkit',
        isAvailable: true,
        platforms: ['linux/amd64'],
        notes: [expect.stringMatching(/no network/)],
      },
      {
        name: 'buildah',
        kind: 'buildah',
        isAvailable: true,
        platforms: expect.arrayContaining(['linux/arm64', 'linux/arm/v7']),
      },
    ]);
  });

  test('has the platforms in the order asked for, each from its builder, and no other tag', async () => {
    const { targetImage, buildId } = await submit('linux/arm64,linux/amd64,linux/arm/v7');
    const index = JSON.parse(await run(clientPath('crane'), ['manifest', '--insecure', targetImage]));
    const platforms = index.manifests.map(({ platform }: { platform: Platform }) => formatPlatform(platform));
    expect(platforms).toEqual(['linux/arm64', 'linux/amd64', 'linux/arm/v7']);
    const machines = [];
    for (const platform of ['linux/amd64', 'linux/arm64', 'linux/arm/v7'])
      machines.push(await machineOf(targetImage, platform));
    expect(machines).toEqual(['x86_64', 'aarch64', 'armv7l']);
    expect((await ask(`/v1alpha1/builds/${buildId}`)).backends).toEqual(['buildah', 'buildkit']);
    expect((await ask('/v2/local/builds/tags/list')).tags).toEqual([/bd-([0-9a-f]{16})_/.exec(buildId)?.[1]]);
  });

  test('fails as a whole when one of them fails, and says where', async () => {
    const { buildId } = await submit('linux/amd64,linux/arm64', 'RUN [ "$(uname -m)" != aarch64 ]');
    const log = await (await fetch(`http://${veneer}/v1alpha1/builds/${buildId}/logs`)).text();
    const { status, failure } = await ask(`/v1alpha1/builds/${buildId}`);
    expect({ status, ...failure }).toMatchObject({ status: 'failed', kind: 'build', platform: 'linux/arm64' });
    expect(log.trim().split('\n').at(-1)).toContain('linux/arm64');
  });

  async function ask(path: string) {
    const response = await fetch(`http://${veneer}${path}`);
    expect(response.status).toBe(200);
    return JSON.parse(await response.text());
  }

  async function submit(containerPlatform: string, step = 'RUN uname -m > /machine') {
    const containerFile = Buffer.from(`FROM ${environment.source}\n${step}\n`).toString('base64');
    const body = JSON.stringify({ containerFile, containerPlatform });
    const response = await fetch(`http://${veneer}/v1alpha2/container`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
    });
    expect(response.status).toBe(200);
    return JSON.parse(await response.text());
  }

  async function machineOf(image: string, platform: string): Promise<string> {
    const tar = join(environment.folder, `${platform.replaceAll('/', '-')}.tar`);
    await run(clientPath('crane'), ['export', '--insecure', '--platform', platform, image, tar]);
    return await run('tar', ['-xOf', tar, 'machine']);
  }
});
