// A real engine pulls what Veneer makes of a BuildKit image, on three platforms, and runs it.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { submitAugmentation } from './support/augment.ts';
import { clientPath, findMissing } from './support/clients.ts';
import { startBuildkit, startDocker, startRegistry, startVeneer } from './support/daemons.ts';
import { makeBusyboxImage, PLATFORMS } from './support/image.ts';
import { type Running, run } from './support/process.ts';

const missing = findMissing(['registry', 'buildkitd', 'buildctl', 'crane', 'dockerd', 'docker', 'runc']);

describe.skipIf(missing)(`docker${missing ? ` (${missing})` : ''}`, { timeout: 120_000 }, () => {
  const running: Running[] = [];
  let folder = '';
  let registry = '';
  let veneer = '';
  let host = '';
  let submitted = { targetImage: '', targetDigest: '' };

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'veneer-docker-'));
    registry = await start(startRegistry(folder)).then(({ address }) => address);
    const { socket } = await start(startBuildkit(folder, registry));
    host = (await start(startDocker(folder))).host;
    veneer = (await start(startVeneer(folder, registry))).address;
    await makeBusyboxImage(folder, `${registry}/library/bb:1`, socket);
    submitted = await submitAugmentation(veneer, `${registry}/library/bb:1`);
  }, 120_000);

  afterAll(async () => {
    for (const process of running.reverse()) await process.stop();
    await rm(folder, { recursive: true, force: true });
  }, 60_000);

  test.each(PLATFORMS)('runs the augmented image on %s', async platform => {
    await docker('pull', '--platform', platform, submitted.targetImage);
    const script = 'echo $ADDED $BASE; pwd; busybox cat /opt/veneer/hello';
    const output = await docker(
      ...['run', '--rm', '--network', 'none', '--platform', platform, submitted.targetImage, '/bin/sh', '-c', script],
    );
    expect(output.split('\n')).toEqual(['yes 1', '/opt/veneer', 'hello']);
    const shown = '{{.Os}}/{{.Architecture}} {{.Config.Labels.added}}';
    const [os, architecture] = platform.split('/');
    expect(await docker('image', 'inspect', '-f', shown, submitted.targetImage)).toBe(`${os}/${architecture} yes`);
  });

  test('pulls the augmented image by the digest that was promised', async () => {
    const pinned = `${submitted.targetImage.replace(/:[^:/]+$/, '')}@${submitted.targetDigest}`;
    expect(await docker('pull', pinned)).toContain(submitted.targetDigest);
  });

  test('pulls a plain image with the digest of the upstream', async () => {
    const digest = await run(clientPath('crane'), ['digest', '--insecure', `${registry}/library/bb:1`]);
    expect(digest).not.toBe(submitted.targetDigest);
    expect(await docker('pull', `${veneer}/lab/library/bb:1`)).toContain(`Digest: ${digest}`);
  });

  async function start<R extends Running>(starting: Promise<R>): Promise<R> {
    const started = await starting;
    running.push(started);
    return started;
  }

  async function docker(...args: readonly string[]): Promise<string> {
    return await run('docker', ['-H', host, ...args]);
  }
});
