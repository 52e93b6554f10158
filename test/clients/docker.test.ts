// A real engine pulls what Veneer makes of a BuildKit image, on three platforms, and runs it.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PRINTED, submitAugmentation } from './support/augment.ts';
import { clientPath, findMissing } from './support/clients.ts';
import { startDocker, startVeneer } from './support/daemons.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS, type Environment } from './support/environment.ts';
import { PLATFORMS } from './support/image.ts';
import { run } from './support/process.ts';

const missing = findMissing([...ENVIRONMENT_COMMANDS, 'dockerd', 'docker']);

describe.skipIf(missing)(`docker${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
  let environment: Environment;
  let host = '';
  let veneer = '';
  let submitted = { targetImage: '', targetDigest: '' };

  beforeAll(async () => {
    environment = await createEnvironment();
    host = (await environment.keep(startDocker(environment.folder))).host;
    veneer = (await environment.keep(startVeneer(environment.folder, environment.registry))).address;
    submitted = await submitAugmentation(veneer, environment.source);
  }, 120_000);

  afterAll(() => environment?.close(), 60_000);

  test.each(PLATFORMS)('runs the augmented image on %s', async platform => {
    await docker('pull', '--platform', platform, submitted.targetImage);
    const options = ['--rm', '--network', 'none', '--platform', platform];
    expect(await docker('run', ...options, submitted.targetImage)).toBe(PRINTED);
    const shown = '{{.Os}}/{{.Architecture}} {{.Config.Labels.added}}';
    const [os, architecture] = platform.split('/');
    expect(await docker('image', 'inspect', '-f', shown, submitted.targetImage)).toBe(`${os}/${architecture} yes`);
  });

  test('pulls the augmented image by the digest that was promised', async () => {
    const pinned = `${submitted.targetImage.replace(/:[^:/]+$/, '')}@${submitted.targetDigest}`;
    expect(await docker('pull', pinned)).toContain(submitted.targetDigest);
  });

  test('pulls a plain image with the digest of the upstream', async () => {
    const digest = await run(clientPath('crane'), ['digest', '--insecure', environment.source]);
    expect(digest).not.toBe(submitted.targetDigest);
    expect(await docker('pull', `${veneer}/lab/library/bb:1`)).toContain(`Digest: ${digest}`);
  });

  async function docker(...args: readonly string[]): Promise<string> {
    return await run('docker', ['-H', host, ...args]);
  }
});
