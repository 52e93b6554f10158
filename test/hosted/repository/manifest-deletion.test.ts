// Deleting manifests: what goes with them, and what stays.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { HostedRepositories } from '../../../src/hosted/repositories.ts';
import { parseDigest } from '../../../src/oci/digest.ts';
import { generateImage } from '../../support/images.ts';
import { bytes, createPlace, type Place, pushImage, pushSmall, putManifest, smallManifest } from '../fixture.ts';

let place: Place;
let hosted: HostedRepositories;

beforeEach(async () => {
  place = await createPlace();
  hosted = await place.open();
});

afterEach(() => place.remove());

describe('deleting a manifest', () => {
  test('takes its tags along, and its bytes with the last repository', async () => {
    const { digest, raw } = await pushSmall(hosted, 'local/app', 'a', { tags: ['1', '2'] });
    await pushSmall(hosted, 'local/app', 'b', { tags: ['3'] });
    await pushSmall(hosted, 'local/other', 'a');
    await hosted.manifests.delete('local/app', digest);
    await expect(hosted.manifests.get('local/app', digest)).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
    await expect(hosted.tags.resolve('local/app', '1')).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
    expect((await hosted.tags.list('local/app', {})).tags).toEqual(['3']);
    expect(Buffer.compare((await hosted.manifests.get('local/other', digest)).raw, raw)).toBe(0);
    await hosted.manifests.delete('local/other', digest);
    expect(await place.inventory()).not.toContain(digest);
  });

  test('leaves no record behind once all is deleted', async () => {
    const image = generateImage({ seed: 3, platforms: ['linux/amd64', 'linux/arm64'], layers: 2, family: 'oci' });
    await pushImage(hosted, 'local/app', image, ['1']);
    const subject = { ...image.root };
    await pushSmall(hosted, 'local/app', 'x');
    const signature = smallManifest(bytes('{"seed":"x"}'), bytes('layer of x'), { subject });
    await putManifest(hosted, 'local/app', signature);
    const stored = await place.records.list('hosted.manifest', { limit: 100 });
    for (const key of stored) await hosted.manifests.delete('local/app', digestAfter(key));
    for (const key of await place.records.list('hosted.blob', { limit: 100 })) {
      await hosted.blobs.delete('local/app', digestAfter(key));
    }
    const collections = ['tag', 'tagged', 'manifest', 'blob', 'holder', 'reference', 'referrer', 'upload'];
    for (const name of collections) expect(await place.records.list(`hosted.${name}`, { limit: 1 })).toEqual([]);
    expect(await place.inventory()).toEqual([]);
    await expect(hosted.tags.list('local/app', {})).rejects.toMatchObject({ code: 'NAME_UNKNOWN' });
  });

  test('is unknown for what is not there', async () => {
    const { digest } = await pushSmall(hosted, 'local/app', 'a');
    await expect(hosted.manifests.delete('local/none', digest)).rejects.toMatchObject({ code: 'NAME_UNKNOWN' });
    await hosted.manifests.delete('local/app', digest);
    await expect(hosted.manifests.delete('local/app', digest)).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
  });

  test('may be switched off', async () => {
    hosted = await place.open({ deletes: { tags: true, manifests: false, blobs: true } });
    const { digest } = await pushSmall(hosted, 'local/app', 'a');
    await expect(hosted.manifests.delete('local/app', digest)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      status: 405,
    });
    expect(await hosted.manifests.get('local/app', digest)).toBeDefined();
  });
});

function digestAfter(key: string) {
  return parseDigest(key.slice(key.indexOf('@') + 1));
}
