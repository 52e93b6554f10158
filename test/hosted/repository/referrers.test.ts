// Referrers: the list of what has a subject, filtered and in pages.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { HostedRepositories } from '../../../src/hosted/repositories.ts';
import { type Digest, digestOf } from '../../../src/oci/digest.ts';
import { mediaTypes } from '../../../src/oci/media-type.ts';
import { bytes, createPlace, descriptorOf, json, type Place, pushBlob, pushSmall, putManifest } from '../fixture.ts';

let place: Place;
let hosted: HostedRepositories;
const empty = bytes('{}');
const missing = { mediaType: mediaTypes.ociManifest, digest: digestOf(bytes('missing')), size: 7 };

beforeEach(async () => {
  place = await createPlace();
  hosted = await place.open();
  await pushBlob(hosted, 'local/app', empty);
});

afterEach(() => place.remove());

const document = (more: object) => ({
  schemaVersion: 2,
  mediaType: mediaTypes.ociManifest,
  config: descriptorOf(empty, mediaTypes.ociEmpty),
  layers: [],
  subject: missing,
  ...more,
});

async function push(value: { mediaType?: string }, contentType = value.mediaType ?? '', repository = 'local/app') {
  const raw = json(value);
  const pushed = await putManifest(hosted, repository, raw, { contentType });
  return { ...descriptorOf(raw, contentType), pushed };
}

const list = (digest: Digest = missing.digest, page = {}) => hosted.listReferrers('local/app', digest, page);

test('there are none of what nobody refers to, whether it is there or not', async () => {
  const { digest } = await pushSmall(hosted, 'local/app', 'a');
  const none = { descriptors: [], hasMore: false };
  expect(await list(digest)).toEqual(none);
  expect(await list()).toEqual(none);
  expect(await hosted.listReferrers('local/none', digest, {})).toEqual(none);
});

describe('a referrer is described', () => {
  const annotations = { 'org.example.a': 'é "quoted"', b: '' };
  test.each([
    ['by its artifactType', document({ artifactType: 'text/x', annotations }), { artifactType: 'text/x', annotations }],
    ['by the type of its config', document({}), { artifactType: mediaTypes.ociEmpty }],
    [
      'by the type of its config, for an empty artifactType',
      document({ artifactType: '' }),
      { artifactType: mediaTypes.ociEmpty },
    ],
    [
      'as an index with an artifactType',
      {
        schemaVersion: 2,
        mediaType: mediaTypes.ociIndex,
        artifactType: 'text/x',
        manifests: [],
        subject: missing,
        annotations,
      },
      { artifactType: 'text/x', annotations },
    ],
    [
      'as an index without one',
      { schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests: [], subject: missing },
      {},
    ],
    [
      'as a manifest of a type that we do not know',
      {
        mediaType: 'application/vnd.oci.artifact.manifest.v1+json',
        artifactType: 'text/y',
        blobs: [],
        subject: missing,
      },
      { artifactType: 'text/y' },
    ],
  ])('%s', async (_, value, more) => {
    const { pushed, ...descriptor } = await push(value);
    expect(pushed.subject).toBe(missing.digest);
    expect(await list()).toEqual({ descriptors: [{ ...descriptor, ...more }], hasMore: false });
  });
});

test('only those of the repository and the subject are listed, in the order of their digests', async () => {
  const referrers = await Promise.all(['a', 'b', 'c', 'd'].map(name => push(document({ annotations: { name } }))));
  const subject = { ...missing, digest: digestOf(bytes('other')) };
  await push(document({ subject }));
  await pushBlob(hosted, 'local/other', empty);
  await push(document({ annotations: { name: 'elsewhere' } }), mediaTypes.ociManifest, 'local/other');
  const { descriptors } = await list();
  expect(descriptors.map(({ digest }) => digest)).toEqual(referrers.map(({ digest }) => digest).sort());
});

test('an artifactType leaves out the others', async () => {
  const wanted = await push(document({ artifactType: 'text/x' }));
  await push(document({ artifactType: 'text/xx' }));
  const { descriptors } = await list(missing.digest, { artifactType: 'text/x' });
  expect(descriptors.map(({ digest }) => digest)).toEqual([wanted.digest]);
  expect((await list(missing.digest, { artifactType: 'text/z' })).descriptors).toEqual([]);
});

test('a referrer goes with its manifest, and a subject does not take its referrers along', async () => {
  const subject = await pushSmall(hosted, 'local/app', 'a');
  const descriptor = { mediaType: subject.mediaType, digest: subject.digest, size: subject.size };
  const referrer = await push(document({ subject: descriptor }));
  await hosted.manifests.delete('local/app', subject.digest);
  expect((await list(subject.digest)).descriptors).toHaveLength(1);
  await hosted.manifests.delete('local/app', referrer.digest);
  expect((await list(subject.digest)).descriptors).toEqual([]);
});

test('more than an index may withLease come page by page, filtered too', async () => {
  const large = { padding: 'x'.repeat(1_000_000) };
  for (let i = 0; i < 7; i++) {
    await push(document({ artifactType: 'text/x', annotations: { ...large, i: `${i}` } }));
    await push(document({ artifactType: 'text/y', annotations: { i: `${i}` } }));
  }
  const digests: Digest[] = [];
  const sizes: number[] = [];
  for (let after: Digest | undefined; ; after = digests.at(-1)) {
    const page = await list(missing.digest, { artifactType: 'text/x', after });
    digests.push(...page.descriptors.map(({ digest }) => digest));
    sizes.push(page.descriptors.length);
    expect(Buffer.byteLength(JSON.stringify(page.descriptors))).toBeLessThan(4 * 1024 * 1024);
    if (!page.hasMore) break;
  }
  expect(sizes).toEqual([3, 3, 1]);
  expect(new Set(digests).size).toBe(7);
});

test('a referrer that is larger than a page comes alone', async () => {
  const annotations = { padding: 'x'.repeat(3_900_000) };
  await push(document({ annotations }));
  await push(document({ annotations: { ...annotations, a: 'b' } }));
  const first = await list();
  expect([first.descriptors.length, first.hasMore]).toEqual([1, true]);
  const second = await list(missing.digest, { after: first.descriptors[0]?.digest });
  expect([second.descriptors.length, second.hasMore]).toEqual([1, false]);
});
