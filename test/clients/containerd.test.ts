// A real containerd pulls what Veneer makes of a BuildKit image, keeps exactly that, and runs it on three platforms.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PRINTED, submitAugmentation } from './support/augment.ts';
import { checkBlobs } from './support/blobs.ts';
import { clientPath, findMissing } from './support/clients.ts';
import { startContainerd, startVeneer } from './support/daemons.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS, type Environment } from './support/environment.ts';
import { PLATFORMS } from './support/image.ts';
import { run } from './support/process.ts';

const missing = findMissing([...ENVIRONMENT_COMMANDS, 'containerd', 'ctr', 'containerd-shim-runc-v2']);
const ALL_PLATFORMS = ['--plain-http', '--all-platforms'];
const SNAPSHOTTER = ['--snapshotter', 'native'];

describe.skipIf(missing)(`containerd${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
  let environment: Environment;
  let containerd = { socket: '', content: '' };
  let veneer = '';
  let submitted = { targetImage: '', targetDigest: '' };

  beforeAll(async () => {
    environment = await createEnvironment();
    containerd = await environment.keep(startContainerd(environment.folder));
    veneer = (await environment.keep(startVeneer(environment.folder, environment.registry))).address;
    submitted = await submitAugmentation(veneer, environment.source);
  }, 120_000);

  afterAll(() => environment?.close(), 60_000);

  test.each([
    { by: 'tag', reference: () => submitted.targetImage },
    { by: 'digest', reference: () => `${submitted.targetImage.replace(/:[^:/]+$/, '')}@${submitted.targetDigest}` },
  ])('pulls the augmented image by $by, and has its three images and nothing else', async ({ by, reference }) => {
    await ctr(by, 'images', 'pull', ...ALL_PLATFORMS, ...SNAPSHOTTER, reference());
    const { images, digests } = await checkBlobs(containerd.content, submitted.targetDigest);
    expect(images).toBe(PLATFORMS.length);
    expect(await listContent(by)).toEqual(digests);
  });

  test.each(PLATFORMS)('runs the augmented image on %s', async platform => {
    const container = `runs-${platform.replaceAll('/', '-')}`;
    await ctr('runs', 'images', 'pull', '--plain-http', '--platform', platform, ...SNAPSHOTTER, submitted.targetImage);
    const options = ['--rm', ...SNAPSHOTTER, '--platform', platform];
    expect(await ctr('runs', 'run', ...options, submitted.targetImage, container)).toBe(PRINTED);
  });

  test('has the same content of a plain image as from the upstream, attestations too', async () => {
    const plain = `${veneer}/lab/library/bb:1`;
    await ctr('plain', 'content', 'fetch', ...ALL_PLATFORMS, plain);
    await ctr('upstream', 'content', 'fetch', ...ALL_PLATFORMS, environment.source);
    const digest = await run(clientPath('crane'), ['digest', '--insecure', environment.source]);
    expect(await ctr('plain', 'images', 'list', `name==${plain}`)).toContain(` ${digest} `);
    const content = await listContent('plain');
    expect(content).toContain(digest);
    expect(content).toEqual(await listContent('upstream'));
  });

  async function ctr(namespace: string, ...args: readonly string[]): Promise<string> {
    return await run('ctr', ['--address', containerd.socket, '--namespace', namespace, ...args]);
  }

  async function listContent(namespace: string): Promise<readonly string[]> {
    const output = await ctr(namespace, 'content', 'list', '--quiet');
    return output.split('\n').toSorted();
  }
});
