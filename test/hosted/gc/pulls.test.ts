// What was pushed is pulled again, to the byte, and what is lost or not there is an error.
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { HostedRepositories } from '../../../src/hosted/repositories.ts';
import { digestHex, digestOf } from '../../../src/oci/digest.ts';
import { generateImage } from '../../support/images.ts';
import { checkImage } from '../../support/oracle.ts';
import {
  bytes,
  createPlace,
  layer,
  type Place,
  pushBlob,
  pushImage,
  pushSmall,
  putManifest,
  readBlob,
} from '../fixture.ts';

let place: Place;
let hosted: HostedRepositories;

beforeEach(async () => {
  place = await createPlace();
  hosted = await place.open();
});

afterEach(() => place.remove());

describe('an image goes round', () => {
  const platforms = ['linux/amd64', 'linux/arm64'];
  const plain = { seed: 1, platforms, layers: 2, family: 'oci' } as const;
  test.each([
    ['an OCI index', plain],
    ['a single image', { ...plain, index: false }],
    ['a Docker list', { ...plain, family: 'docker' as const }],
    ['an index of indexes', { ...plain, nested: true }],
    ['attestations and an artifact', { ...plain, attestations: true, artifact: true }],
    ['manifests that do not name their type', { ...plain, noMediaType: true }],
    ['no layers at all', { ...plain, layers: 0 }],
    ['an empty index', { ...plain, platforms: [] }],
  ])('%s, pulled by tag and by digest after a restart', async (_, options) => {
    const image = generateImage(options);
    await pushImage(hosted, 'local/app', image, ['1.0']);
    hosted = await place.open();
    expect(await hosted.tags.resolve('local/app', '1.0')).toBe(image.root.digest);
    const images = await checkImage(image.root, async ({ digest, mediaType }) => {
      if (!/manifest|index/.test(mediaType)) return readBlob(hosted, 'local/app', digest);
      const manifest = await hosted.manifests.get('local/app', digest);
      expect(manifest.mediaType).toBe(mediaType);
      expect(manifest.digest).toBe(digest);
      return manifest.raw;
    });
    expect(images.length).toBe(options.platforms.length && ('index' in options ? 1 : 2));
  });
});

describe('a manifest that is read', () => {
  test('is unknown, or its repository is', async () => {
    const digest = digestOf(bytes('nothing'));
    const missing = () => hosted.manifests.get('local/app', digest);
    await expect(missing()).rejects.toMatchObject({ code: 'NAME_UNKNOWN', status: 404 });
    await pushBlob(hosted, 'local/app', layer);
    await expect(missing()).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN', status: 404 });
  });

  test('is not read through another repository', async () => {
    const { digest } = await pushSmall(hosted, 'local/app', 'a');
    await pushBlob(hosted, 'local/other', layer);
    await expect(hosted.manifests.get('local/other', digest)).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
  });

  test.each([
    ['damaged', (file: string) => writeFile(file, 'other bytes')],
    ['lost', (file: string) => rm(file)],
  ])('and was %s on disk is a loud failure, until it is pushed again', async (_, harm) => {
    const { digest, raw } = await pushSmall(hosted, 'local/app', 'a');
    await harm(join(place.directory, 'blobs', 'sha256', digestHex(digest).slice(0, 2), digestHex(digest)));
    await expect(hosted.manifests.get('local/app', digest)).rejects.toThrow('lost or damaged');
    await putManifest(hosted, 'local/app', raw);
    expect(Buffer.compare((await hosted.manifests.get('local/app', digest)).raw, raw)).toBe(0);
  });
});
