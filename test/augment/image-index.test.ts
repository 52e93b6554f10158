// The rules for an index: order, fields, attestations, limits.
import { expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { type GeneratedImage, generateImage } from '../support/images.ts';
import { createLayer, run } from './fixture.ts';

const two = { seed: 4, platforms: ['linux/amd64', 'linux/arm64'], layers: 1, family: 'oci' } as const;
const change = { env: { A: '1' } };

interface Entry {
  readonly digest: string;
  readonly annotations?: Record<string, string>;
}

test('changes nothing of an index but the digests and sizes of its images', async () => {
  const image = generateImage({ ...two, artifact: true });
  const before = (await run(image, {})).rootJson;
  const { rootJson: after, images } = await run(image, change);
  const withDigests = before.manifests.map((entry: Entry, i: number) =>
    i < 2 ? { ...entry, digest: images[i]?.target, size: after.manifests[i].size } : entry,
  );
  expect(JSON.stringify(after)).toBe(JSON.stringify({ ...before, manifests: withDigests }));
});

test('drops the attestations of changed images', async () => {
  const { rootJson, images } = await run(generateImage({ ...two, attestations: true }), change);
  expect(rootJson.manifests.map((entry: Entry) => entry.digest)).toEqual(images.map(({ target }) => target));
});

test('keeps the attestations of images that stay as they are, though others change', async () => {
  const { layer } = createLayer('x', 'gzip', ['linux/arm64']);
  const image = generateImage({ ...two, attestations: true });
  const [first, about] = (await run(image, {})).rootJson.manifests;
  const { rootJson, images } = await run(image, { layers: [layer] });
  expect(rootJson.manifests.slice(0, 2)).toEqual([first, about]);
  expect(rootJson.manifests.slice(2).map((entry: Entry) => entry.digest)).toEqual([images[1]?.target]);
  const chosen = await run(image, { layers: [layer], platforms: two.platforms });
  expect(chosen.rootJson.manifests).toHaveLength(2);
});

test('leaves an index of artifacts alone for rules, also an empty one', async () => {
  const image = generateImage({ ...two, artifact: true });
  for (const entries of [[], ['artifact']]) {
    const index = editEntries(image, all => all.slice(all.length - entries.length));
    const { root, unchanged, documents } = await run(index, [{ rule: 'a', augmentation: change }]);
    await expect(run(index, change)).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
    expect([root, [...unchanged], documents]).toEqual([index.root, [index.root.digest], []]);
  }
});

test('refuses an index that has no image to change beside what it does not read', async () => {
  const image = generateImage({ ...two, attestations: true });
  const index = editEntries(image, all => all.slice(1, 2));
  const pull = run(index, [{ rule: 'a', augmentation: change }]);
  await expect(pull).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
});

test('tells one image apart by the platforms that its entries say', async () => {
  const { layer, raw } = createLayer('x', 'gzip', ['linux/arm64']);
  const source = generateImage({ ...two, platforms: ['linux/amd64'] });
  const image = editEntries(source, ([entry]) => [
    { ...entry },
    { ...entry, platform: { os: 'linux', architecture: 'arm64' } },
  ]);
  const { images, unchanged } = await run(image, { layers: [layer] }, [raw]);
  expect(images.map(({ source, target }) => source === target)).toEqual([true, false]);
  expect([...unchanged]).toEqual([images[0]?.source]);
});

test('rewrites an image that runs nowhere by its config, where its entry names no platform', async () => {
  const platforms = ['linux/amd64', 'unknown/unknown'];
  const { images } = await run(generateImage({ ...two, platforms, noPlatform: true }), change);
  expect(images.map(({ source, target }) => source === target)).toEqual([false, false]);
});

const REFERENCE = { 'vnd.docker.reference.type': 'attestation-manifest' };

test.each([
  ['with the annotation of an attestation', { annotations: REFERENCE }],
  ['with that, and no platform', { annotations: REFERENCE, platform: undefined }],
  ['that says it runs nowhere', { platform: { os: 'unknown', architecture: 'unknown' } }],
])('never keeps an image %s for an attestation', async (_, entry) => {
  const image = editEntries(generateImage(two), entries => entries.map(old => ({ ...old, ...entry })));
  const { rootJson } = await run(image, { ...change, attestations: 'keep' });
  expect(rootJson.manifests).toHaveLength(2);
  for (const { digest } of rootJson.manifests) expect(image.content.has(digest)).toBe(false);
});

test('reads no attestation that it drops', async () => {
  const image = generateImage({ ...two, attestations: true });
  const attestations = new Map([...image.content].filter(([, { raw }]) => !Buffer.from(raw).includes('in-toto')));
  expect((await run({ ...image, content: attestations }, change)).images).toHaveLength(2);
});

test('goes by what an entry points to, not by the type that it says', async () => {
  const nested = wrap(generateImage(two));
  const image = editEntries(nested, entries => entries.map(old => ({ ...old, mediaType: mediaTypes.ociManifest })));
  const { images, rootJson } = await run(image, change);
  expect(images).toHaveLength(2);
  expect(rootJson.manifests[0].mediaType).toBe(mediaTypes.ociIndex);
});

test.each<[string, (entries: readonly Entry[]) => readonly object[]]>([
  ['has not the size that it says', ([first, ...rest]) => [{ ...first, size: 7 }, ...rest]],
  [
    'says that it is too large to be read with all others',
    ([first, ...rest]) => [{ ...first, size: 2 ** 26 }, ...rest],
  ],
  ['has names that differ by case', ([first, ...rest]) => [{ ...first, Digest: first?.digest }, ...rest]],
  ['is no descriptor', ([first, ...rest]) => [{ ...first, digest: 'sha256:1' }, ...rest]],
])('refuses an index with an entry that %s', async (_, edit) => {
  await expect(run(editEntries(generateImage(two), edit), change)).rejects.toMatchObject({ code: 'MANIFEST_INVALID' });
});

test.each([
  ['is of Docker’s schema 1', 'application/vnd.docker.distribution.manifest.v1+prettyjws', '{"schemaVersion":1}'],
  ['says it is an image, but comes as something else', 'application/vnd.test+json', '{"config":{},"layers":[]}'],
  ['is an index and an image', mediaTypes.ociManifest, '{"manifests":[],"layers":[]}'],
])('refuses an index with an entry that %s', async (_, mediaType, text) => {
  const raw = Buffer.from(text);
  const entry = { mediaType: mediaTypes.ociManifest, digest: digestOf(raw), size: raw.byteLength };
  const image = editEntries(generateImage(two), entries => [...entries, entry]);
  const content = new Map([...image.content, [entry.digest, { mediaType, raw }]]);
  await expect(run({ ...image, content }, change)).rejects.toMatchObject({ code: 'MANIFEST_INVALID' });
});

test('refuses what would be too large with all its images', async () => {
  const platforms = Array.from({ length: 20 }, (_, i) => `linux/arm/v${i}`);
  const pull = run(generateImage({ ...two, platforms }), { labels: { big: 'x'.repeat(3.9 * 1024 * 1024) } });
  await expect(pull).rejects.toMatchObject({ code: 'MANIFEST_INVALID', message: expect.stringContaining('larger') });
});

test('keeps entries of types that nobody knows, and those alone', async () => {
  const raw = Buffer.from('not JSON');
  const entry = { mediaType: 'application/vnd.test', digest: digestOf(raw), size: raw.byteLength };
  const image = editEntries(generateImage(two), entries => [entry, ...entries]);
  const content = new Map([...image.content, [entry.digest, { mediaType: entry.mediaType, raw }]]);
  const { rootJson, unchanged } = await run({ ...image, content }, change);
  expect(rootJson.manifests[0]).toEqual(entry);
  expect([...unchanged]).toEqual([]);
});

test('tells the images and indexes that stay as they were', async () => {
  const { layer } = createLayer('x', 'gzip', ['linux/arm64']);
  const image = generateImage({ ...two, nested: true });
  const { images, unchanged } = await run(image, { layers: [layer] });
  expect([...unchanged]).toEqual([images[0]?.source]);
  expect((await run(image, {})).unchanged).toContain(image.root.digest);
});

test('keeps the digests of entries that are not of sha256', async () => {
  const source = generateImage(two);
  const image = editEntries(source, entries =>
    entries.map(old => ({
      ...old,
      digest: digestOf(source.content.get(old.digest)?.raw ?? new Uint8Array(), 'sha512'),
    })),
  );
  const content = new Map(image.content);
  for (const value of source.content.values()) content.set(digestOf(value.raw, 'sha512'), value);
  expect((await run({ ...image, content }, {})).root).toEqual(image.root);
});

test.each([
  ['all platforms', {}],
  ['chosen platforms', { platforms: ['linux/arm64', 'linux/amd64'] }],
])('keeps attestations, pointing to the new digests, for %s', async (_, choice) => {
  const { rootJson, images } = await run(generateImage({ ...two, attestations: true, nested: false }), {
    ...change,
    ...choice,
    attestations: 'keep',
  });
  const subjects = rootJson.manifests.map((entry: Entry) => entry.annotations?.['vnd.docker.reference.digest']);
  expect(subjects).toEqual([undefined, images[0]?.target, undefined, images[1]?.target]);
});

test('puts a layer on the platforms that it names only', async () => {
  const { raw, layer } = createLayer('x', 'gzip', ['linux/arm64']);
  const { images, json } = await run(generateImage(two), { layers: [layer] }, [raw]);
  expect(images[0]?.target).toBe(images[0]?.source);
  expect(json({ digest: images[1]?.target ?? '' }).layers).toHaveLength(2);
});

test('fails for the whole index when one image cannot be augmented', async () => {
  const pull = run(generateImage({ ...two, manifest: { layers: [] } }), change);
  await expect(pull).rejects.toMatchObject({ code: 'MANIFEST_INVALID' });
});

test('rewrites indexes nested four deep', async () => {
  const result = await run(wrap(wrap(wrap(generateImage(two)))), change);
  expect(result.images).toHaveLength(2);
  expect(result.images.every(({ source, target }) => source !== target)).toBe(true);
});

test.each([
  ['nests deeper than four', () => wrap(wrap(wrap(wrap(generateImage(two)))))],
  ['has more than 512 entries in all', () => wrap(wrap(generateImage(two), 257))],
])('refuses an index that %s', async (_, create) => {
  await expect(run(create(), change)).rejects.toMatchObject({ code: 'MANIFEST_INVALID' });
});

/** An index of `count` entries that all point to the image. */
function wrap({ root, content }: GeneratedImage, count = 1): GeneratedImage {
  const mediaType = mediaTypes.ociIndex;
  const manifests = Array.from({ length: count }, () => root);
  const raw = new TextEncoder().encode(JSON.stringify({ schemaVersion: 2, mediaType, manifests }));
  const digest = digestOf(raw);
  return {
    root: { mediaType, digest, size: raw.byteLength },
    content: new Map([...content, [digest, { mediaType, raw }]]),
  };
}

/** The image with other entries in its root. */
function editEntries(
  { root, content }: GeneratedImage,
  edit: (entries: readonly Entry[]) => readonly object[],
): GeneratedImage {
  const index = JSON.parse(Buffer.from(content.get(root.digest)?.raw ?? []).toString());
  const raw = Buffer.from(JSON.stringify({ ...index, manifests: edit(index.manifests) }));
  const { mediaType } = root;
  const digest = digestOf(raw);
  return {
    root: { mediaType, digest, size: raw.byteLength },
    content: new Map([...content, [digest, { mediaType, raw }]]),
  };
}
