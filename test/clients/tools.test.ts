// Tools that copy, check and rewrite images accept what Veneer serves, and agree with it.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { ADDED, makeTar, submitAugmentation } from './support/augment.ts';
import { clientPath, findMissing } from './support/clients.ts';
import { startBuildkit, startRegistry, startVeneer } from './support/daemons.ts';
import { makeBusyboxImage, PLATFORMS } from './support/image.ts';
import { type Running, run } from './support/process.ts';

const missing = findMissing(['registry', 'buildkitd', 'buildctl', 'crane', 'regctl', 'skopeo', 'podman', 'runc']);
const ImageConfig = z.object({ config: z.unknown() });

describe.skipIf(missing)(`tools${missing ? ` (${missing})` : ''}`, { timeout: 120_000 }, () => {
  const running: Running[] = [];
  let folder = '';
  let registry = '';
  let image = '';

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'veneer-tools-'));
    registry = (await start(startRegistry(folder))).address;
    const { socket } = await start(startBuildkit(folder, registry));
    const veneer = (await start(startVeneer(folder, registry))).address;
    await makeBusyboxImage(folder, `${registry}/library/bb:1`, socket);
    image = (await submitAugmentation(veneer, `${registry}/library/bb:1`)).targetImage;
  }, 120_000);

  afterAll(async () => {
    for (const process of running.reverse()) await process.stop();
    await rm(folder, { recursive: true, force: true });
  }, 60_000);

  test('crane finds every digest, size and diffID right', async () => {
    await run(clientPath('crane'), ['validate', '--insecure', '--remote', image]);
  });

  test('skopeo copies all platforms', async () => {
    const copy = join(folder, 'copy');
    await run('skopeo', ['copy', '--all', '--src-tls-verify=false', `docker://${image}`, `dir:${copy}`]);
  });

  test('podman pulls it', async () => {
    const roots = ['--root', join(folder, 'podman'), '--runroot', join(folder, 'podman-run')];
    const id = await run('podman', [...roots, '--storage-driver', 'vfs', 'pull', '-q', '--tls-verify=false', image]);
    expect(id).toMatch(/^[0-9a-f]{64}$/);
  });

  test('regctl makes the same effective config of the same changes', async () => {
    const tar = join(folder, 'layer.tar');
    const modified = `${registry}/library/modified:1`;
    await writeFile(tar, await makeTar());
    await run(clientPath('regctl'), [
      ...['--host', `reg=${registry},tls=disabled`, 'image', 'mod', `${registry}/library/bb:1`, '--create', modified],
      ...['--env', ADDED.env, '--workdir', ADDED.workingDir, '--label', `added=${ADDED.label}`],
      ...['--layer-add', `tar=${tar}`],
    ]);
    for (const platform of PLATFORMS) {
      expect(await readConfig(image, platform)).toEqual(await readConfig(modified, platform));
    }
  });

  async function start<R extends Running>(starting: Promise<R>): Promise<R> {
    const started = await starting;
    running.push(started);
    return started;
  }
});

async function readConfig(image: string, platform: string): Promise<unknown> {
  const text = await run(clientPath('crane'), ['config', '--insecure', '--platform', platform, image]);
  return ImageConfig.parse(JSON.parse(text)).config;
}
