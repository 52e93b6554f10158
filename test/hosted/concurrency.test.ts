// Things that happen at once: whatever the order, nothing that is linked is lost, and nothing else stays.
import { stat } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { HostedRepositories } from '../../src/hosted/repositories.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { audit } from './audit.ts';
import {
  bytes,
  createPlace,
  type Place,
  pushBlob,
  pushSmall,
  putManifest,
  readBlob,
  smallManifest,
} from './fixture.ts';

let place: Place;
const content = bytes('some content');
const digest = digestOf(content);
const everyone = { isReadable: () => true };

beforeEach(async () => {
  place = await createPlace();
});

afterEach(async () => {
  await audit(place);
  await place.remove();
});

/** A store whose deletions of content wait, once begun, until they are let go. */
async function openWithSlowDeletes() {
  const begun = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  const hosted = await place.open(
    {},
    {
      content: {
        ...place.content,
        async delete(wanted) {
          begun.resolve();
          await gate.promise;
          await place.content.delete(wanted);
        },
      },
    },
  );
  return { hosted, begun: begun.promise, letGo: gate.resolve };
}

describe('while the last link of a blob is being deleted', () => {
  test.each([
    ['a push of it', (hosted: HostedRepositories) => pushBlob(hosted, 'local/b', content)],
    [
      'a mount of it, or else a push',
      async (hosted: HostedRepositories) => {
        if (!(await hosted.blobs.mount('local/b', digest, everyone))) await pushBlob(hosted, 'local/b', content);
      },
    ],
  ])('%s brings its bytes again', async (_, push) => {
    const { hosted, begun, letGo } = await openWithSlowDeletes();
    await pushBlob(hosted, 'local/a', content);
    const deleting = hosted.blobs.delete('local/a', digest);
    await begun;
    const pushing = push(hosted);
    // As far as it comes meanwhile: it must not put its bytes where they are about to be deleted.
    for (let i = 0; i < 200; i++) await stat(place.directory);
    letGo();
    await Promise.all([deleting, pushing]);
    expect(Buffer.from(await readBlob(hosted, 'local/b', digest)).equals(content)).toBe(true);
  });

  test('a manifest that refers to it is refused', async () => {
    const { hosted, begun, letGo } = await openWithSlowDeletes();
    await pushBlob(hosted, 'local/a', bytes('{}'));
    await pushBlob(hosted, 'local/a', content);
    const deleting = hosted.blobs.delete('local/a', digest);
    await begun;
    const putting = putManifest(hosted, 'local/a', smallManifest(bytes('{}'), content));
    const refused = expect(putting).rejects.toMatchObject({ code: 'MANIFEST_BLOB_UNKNOWN' });
    letGo();
    await Promise.all([deleting, refused]);
  });
});

test('of a manifest and the deletion of its layer only one comes about', async () => {
  const hosted = await place.open();
  for (let round = 0; round < 50; round++) {
    const layer = bytes(`layer ${round}`);
    await pushBlob(hosted, 'local/a', bytes('{}'));
    await pushBlob(hosted, 'local/a', layer);
    const [put, removed] = await Promise.allSettled([
      putManifest(hosted, 'local/a', smallManifest(bytes('{}'), layer)),
      hosted.blobs.delete('local/a', digestOf(layer)),
    ]);
    expect([put.status, removed.status].sort()).toEqual(['fulfilled', 'rejected']);
  }
});

test('pushes of one manifest at once all succeed', async () => {
  const hosted = await place.open();
  const { raw, digest: manifest } = await pushSmall(hosted, 'local/a', 'a');
  await hosted.manifests.delete('local/a', manifest);
  await Promise.all(Array.from({ length: 10 }, (_, i) => putManifest(hosted, 'local/a', raw, { tags: [`t${i}`] })));
  expect((await hosted.tags.list('local/a', {})).tags).toHaveLength(10);
});

test('of pushes that move a tag at once the last one stands', async () => {
  const hosted = await place.open();
  const images = await Promise.all(
    Array.from({ length: 10 }, (_, i) => pushSmall(hosted, 'local/a', `${i}`, { tags: ['t'] })),
  );
  const digests = images.map(image => image.digest);
  expect(digests).toContain(await hosted.tags.resolve('local/a', 't'));
});

test('pushes, mounts and deletions of the same few blobs leave a registry in order', async () => {
  const hosted = await place.open();
  const contents = ['a', 'b', 'c'].map(bytes);
  const repositories = ['local/a', 'local/b'];
  const jobs = Array.from({ length: 300 }, async (_, i) => {
    const blob = contents[i % 3] ?? content;
    const repository = repositories[Math.floor(i / 3) % 2] ?? '';
    if (i % 5 < 2) await pushBlob(hosted, repository, blob);
    else if (i % 5 === 2) await hosted.blobs.mount(repository, digestOf(blob), everyone);
    else await hosted.blobs.delete(repository, digestOf(blob)).catch(error => expect(error.code).toBe('BLOB_UNKNOWN'));
  });
  await Promise.all(jobs);
});
