// Tags: resolving, listing in pages, deleting.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { HostedRepositories } from '../../../src/hosted/repositories.ts';
import type { PushedManifest } from '../../../src/hosted/repository/manifests.ts';
import { digestOf } from '../../../src/oci/digest.ts';
import { mediaTypes } from '../../../src/oci/media-type.ts';
import { createPlace, json, type Place, pushSmall, putManifest } from '../fixture.ts';

let place: Place;
let hosted: HostedRepositories;

beforeEach(async () => {
  place = await createPlace();
  hosted = await place.open();
});

afterEach(() => place.remove());

describe('the tags of a repository', () => {
  const sorted = ['0', '1.0', 'A', 'B-1', '_', 'a', 'latest'];

  beforeEach(async () => {
    await pushSmall(hosted, 'local/app', 'a', { tags: sorted.toReversed() });
    await pushSmall(hosted, 'local/app-2', 'a', { tags: ['other'] });
    await pushSmall(hosted, 'local/app/sub', 'a', { tags: ['sub'] });
  });

  test.each([
    ['all', {}, sorted, false],
    ['the first ones', { n: 3 }, sorted.slice(0, 3), true],
    ['as many as there are', { n: 7 }, sorted, false],
    ['more than there are', { n: 8 }, sorted, false],
    ['those after another', { last: 'A' }, sorted.slice(3), false],
    ['those after one that is not there', { last: 'Aa' }, sorted.slice(3), false],
    ['some after another', { n: 2, last: '1.0' }, ['A', 'B-1'], true],
    ['the last ones', { n: 2, last: '_' }, ['a', 'latest'], false],
    ['none after the last', { n: 2, last: 'latest' }, [], false],
    ['none', { n: 0 }, [], false],
    ['none of fewer than none', { n: -5 }, [], false],
    ['all of a huge number', { n: Number.MAX_SAFE_INTEGER }, sorted, false],
  ])('are listed in ASCII order: %s', async (_, page, tags, hasMore) => {
    expect(await hosted.tags.list('local/app', page)).toEqual({ tags, hasMore });
  });

  test('move with a push, each alone', async () => {
    const next = await pushSmall(hosted, 'local/app', 'b', { tags: ['latest', '2.0'] });
    expect(await hosted.tags.resolve('local/app', 'latest')).toBe(next.digest);
    const old = await hosted.tags.resolve('local/app', '1.0');
    await hosted.manifests.delete('local/app', next.digest);
    expect((await hosted.tags.list('local/app', {})).tags).toEqual(sorted.slice(0, -1));
    await hosted.manifests.delete('local/app', old);
    expect(await hosted.tags.list('local/app', {})).toEqual({ tags: [], hasMore: false });
  });

  test('go one by one, and the manifest stays', async () => {
    const digest = await hosted.tags.resolve('local/app', '1.0');
    await hosted.tags.delete('local/app', '1.0');
    await expect(hosted.tags.resolve('local/app', '1.0')).rejects.toMatchObject({
      code: 'MANIFEST_UNKNOWN',
      status: 404,
    });
    expect((await hosted.tags.list('local/app', {})).tags).toEqual(sorted.filter(tag => tag !== '1.0'));
    expect(await hosted.manifests.get('local/app', digest)).toBeDefined();
    await expect(hosted.tags.delete('local/app', '1.0')).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
  });
});

test('of a repository that is not there are unknown', async () => {
  const unknown = { code: 'NAME_UNKNOWN', status: 404 };
  await expect(hosted.tags.list('local/app', {})).rejects.toMatchObject(unknown);
  await expect(hosted.tags.resolve('local/app', 'a')).rejects.toMatchObject(unknown);
  await expect(hosted.tags.delete('local/app', 'a')).rejects.toMatchObject(unknown);
});

test('cannot be deleted where the owner does not want it', async () => {
  hosted = await place.open({ deletes: { tags: false, manifests: true, blobs: true } });
  await pushSmall(hosted, 'local/app', 'a', { tags: ['a'] });
  await expect(hosted.tags.delete('local/app', 'a')).rejects.toMatchObject({ code: 'UNSUPPORTED', status: 405 });
  expect((await hosted.tags.list('local/app', {})).tags).toEqual(['a']);
});

test('come in pages where there are more than 10 000', async () => {
  const { raw } = await pushSmall(hosted, 'local/app', 'a');
  const name = (i: number) => `tag-${String(i).padStart(5, '0')}`;
  for (let i = 0; i < 10_050; i += 50) {
    await putManifest(hosted, 'local/app', raw, { tags: Array.from({ length: 50 }, (_, at) => name(i + at)) });
  }
  const first = await hosted.tags.list('local/app', {});
  expect([first.tags.length, first.tags.at(-1), first.hasMore]).toEqual([10_000, name(9_999), true]);
  const rest = await hosted.tags.list('local/app', { last: first.tags.at(-1) });
  expect([rest.tags.length, rest.tags[0], rest.hasMore]).toEqual([50, name(10_000), false]);
  await hosted.manifests.delete('local/app', digestOf(raw));
  expect(await hosted.tags.list('local/app', {})).toEqual({ tags: [], hasMore: false });
});

describe('an immutable tag', () => {
  const denied = { code: 'DENIED', status: 403, message: expect.stringContaining('v1 of local/app is immutable') };

  beforeEach(async () => {
    hosted = await place.open({ isImmutable: (repository, tag) => repository === 'local/app' && tag.startsWith('v') });
  });

  test('stays where it is: no push moves it, and nothing of such a push is kept', async () => {
    const first = await pushSmall(hosted, 'local/app', 'a', { tags: ['v1', 'latest'] });
    await expect(pushSmall(hosted, 'local/app', 'b', { tags: ['latest', 'v1'] })).rejects.toMatchObject(denied);
    expect(await hosted.tags.resolve('local/app', 'v1')).toBe(first.digest);
    expect(await hosted.tags.resolve('local/app', 'latest')).toBe(first.digest);
    expect(await place.records.list('hosted.manifest', { limit: 5 })).toHaveLength(1);
  });

  test('may be pushed again to the same digest, and moves elsewhere', async () => {
    const { raw } = await pushSmall(hosted, 'local/app', 'a', { tags: ['v1'] });
    await putManifest(hosted, 'local/app', raw, { tags: ['v1', 'latest'] });
    await pushSmall(hosted, 'local/other', 'a', { tags: ['v1'] });
    await pushSmall(hosted, 'local/other', 'b', { tags: ['v1'] });
  });

  test('is not deleted, nor is its manifest', async () => {
    const { digest } = await pushSmall(hosted, 'local/app', 'a', { tags: ['latest', 'v1'] });
    await expect(hosted.tags.delete('local/app', 'v1')).rejects.toMatchObject(denied);
    await expect(hosted.manifests.delete('local/app', digest)).rejects.toMatchObject(denied);
    await hosted.tags.delete('local/app', 'latest');
    expect(await hosted.tags.resolve('local/app', 'v1')).toBe(digest);
  });

  test('keeps all that its index leads to', async () => {
    const child = await pushSmall(hosted, 'local/app', 'a');
    const entry = ({ digest, mediaType, size }: PushedManifest) => ({ digest, mediaType, size });
    const asIndex = { contentType: mediaTypes.ociIndex };
    const inner = await putManifest(
      hosted,
      'local/app',
      json({ schemaVersion: 2, manifests: [entry(child)] }),
      asIndex,
    );
    const outer = json({ schemaVersion: 2, manifests: [entry(inner)] });
    const { digest } = await putManifest(hosted, 'local/app', outer, { ...asIndex, tags: ['v1'] });
    for (const needed of [child.digest, inner.digest, digest]) {
      await expect(hosted.manifests.delete('local/app', needed)).rejects.toMatchObject(denied);
    }
    const free = await pushSmall(hosted, 'local/app', 'b', { tags: ['latest'] });
    await hosted.manifests.delete('local/app', free.digest);
  });
});
