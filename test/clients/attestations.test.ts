// What BuildKit attests of the source does not slip into an augmented index, and is re-pointed where the policy keeps it.
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { submitAugmentation } from './support/augment.ts';
import { checkBlobs } from './support/blobs.ts';
import { findMissing } from './support/clients.ts';
import { startVeneer } from './support/daemons.ts';
import { listEntries } from './support/entries.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS, type Environment } from './support/environment.ts';
import { PLATFORMS } from './support/image.ts';
import { run } from './support/process.ts';

const missing = findMissing([...ENVIRONMENT_COMMANDS, 'skopeo']);

describe.skipIf(missing)(`attestations${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
  let environment: Environment;

  beforeAll(async () => {
    environment = await createEnvironment();
  }, 120_000);

  afterAll(() => environment?.close(), 60_000);

  test('are in the source, one for each platform', async () => {
    const { images, attestations } = await listEntries(environment.source);
    expect(images.map(({ platform }) => platform)).toEqual(PLATFORMS);
    expect(attestations.map(({ type }) => type)).toEqual(PLATFORMS.map(() => 'attestation-manifest'));
    expect(attestations.map(({ about }) => about)).toEqual(images.map(({ digest }) => digest));
  });

  test('are dropped by default: the augmented index has the platforms of the source and nothing else', async () => {
    const { targetImage } = await augment({});
    const { images, attestations } = await listEntries(targetImage);
    expect(images.map(({ platform }) => platform)).toEqual(PLATFORMS);
    expect(attestations).toEqual([]);
  });

  test('are kept by the policy keep, and are then about the augmented images', async () => {
    const { targetImage, targetDigest } = await augment({ attestations: 'keep' });
    const [source, target] = [await listEntries(environment.source), await listEntries(targetImage)];
    const augmented = target.images.map(({ digest }) => digest);
    expect(target.images.map(({ platform }) => platform)).toEqual(PLATFORMS);
    expect(target.attestations).toEqual(source.attestations.map((entry, i) => ({ ...entry, about: augmented[i] })));
    expect(source.images.filter(({ digest }) => augmented.includes(digest))).toEqual([]);
    const layout = join(environment.folder, 'kept');
    await run('skopeo', ['copy', '--all', '--src-tls-verify=false', `docker://${targetImage}`, `oci:${layout}:kept`]);
    const { digests } = await checkBlobs(layout, targetDigest);
    expect(digests).toEqual(expect.arrayContaining(target.attestations.map(({ digest }) => digest)));
  });

  async function augment(settings: Readonly<Record<string, unknown>>) {
    const { address } = await environment.keep(startVeneer(environment.folder, environment.registry, settings));
    return await submitAugmentation(address, environment.source);
  }
});
