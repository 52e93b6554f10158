// Whole images of all shapes, against the oracle.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { generateImage, type ImageOptions } from '../support/images.ts';
import { checkImage } from '../support/oracle.ts';
import { createLayer, run } from './fixture.ts';

const PLATFORMS = ['linux/amd64', 'linux/arm64', 'linux/arm/v7', 'linux/s390x', 'windows/amd64'];
const gzip = createLayer('gzip', 'gzip');
const none = createLayer('none', 'none');
const zstd = createLayer('zstd', 'zstd');

const images = fc.record({
  seed: fc.integer(),
  platforms: fc.integer({ min: 1, max: 5 }).map(count => PLATFORMS.slice(0, count)),
  layers: fc.integer({ min: 1, max: 20 }),
  family: fc.constantFrom('oci', 'docker', 'mixed'),
  index: fc.boolean(),
  nested: fc.boolean(),
  attestations: fc.boolean(),
  artifact: fc.boolean(),
  foreign: fc.boolean(),
  noPlatform: fc.boolean(),
  noEntryType: fc.boolean(),
  noMediaType: fc.boolean(),
});

test('augments every platform of images of all shapes, to consistent bytes', async () => {
  await fc.assert(fc.asyncProperty(images, fc.constantFrom('drop', 'keep'), checkAugmented), { numRuns: 60 });
});

test.each<[string, Partial<ImageOptions>]>([
  ['one platform, one layer', { platforms: ['linux/amd64'], layers: 1 }],
  ['twenty layers', { layers: 20 }],
  ['Docker', { family: 'docker' }],
  ['OCI and Docker in one index', { family: 'mixed' }],
  ['no index', { index: false }],
  ['nested indexes', { nested: true }],
  ['attestations', { attestations: true }],
  ['an artifact beside the images', { artifact: true }],
  ['layers that are not to be distributed', { foreign: true }],
  ['entries without a platform', { noPlatform: true }],
  ['entries without a media type', { noEntryType: true }],
  ['manifests without a media type', { noMediaType: true }],
  ['nothing that says what it is', { noPlatform: true, noEntryType: true, noMediaType: true, nested: true }],
])('augments every platform: %s', async (_, shape) => {
  await checkAugmented({ seed: 7, platforms: PLATFORMS, layers: 3, family: 'oci', ...shape }, 'keep');
});

async function checkAugmented(options: ImageOptions, attestations: string): Promise<void> {
  const layers = options.family === 'oci' ? [gzip, none, zstd] : [gzip, none];
  const input = { layers: layers.map(({ layer }) => layer), env: { A: '1' }, attestations };
  const image = generateImage(options);
  const result = await run(
    image,
    input,
    layers.map(({ raw }) => raw),
  );
  const found = await checkImage(result.root, result.read);

  expect(found).toHaveLength(options.index === false ? 1 : options.platforms.length);
  expect(result.images.map(({ target }) => target)).toEqual(found.map(({ digest }) => digest));
  for (const { digest, layers: made, config } of found) {
    expect(image.content.has(digest)).toBe(false);
    const { os } = result.json(config);
    // Layers of Linux fit no image of Windows.
    const expected = os === 'windows' ? [] : layers.map(({ layer }) => layer.digest);
    expect(made.slice(options.layers).map(layer => layer.digest)).toEqual(expected);
    expect(result.json(config).config.Env).toContain('A=1');
  }
  expect((await run(image, input)).documents).toEqual(result.documents);
}

test('has shapes with all that they name', () => {
  const { content } = generateImage({ ...all, family: 'mixed', layers: 20, foreign: true, artifact: true });
  const types = new Set([...content.values()].map(({ mediaType }) => mediaType));
  expect([...types].sort()).toEqual(
    [
      'application/vnd.docker.container.image.v1+json',
      'application/vnd.docker.distribution.manifest.v2+json',
      'application/vnd.docker.image.rootfs.diff.tar',
      'application/vnd.docker.image.rootfs.diff.tar.gzip',
      'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
      'application/vnd.in-toto+json',
      'application/vnd.oci.empty.v1+json',
      'application/vnd.oci.image.config.v1+json',
      'application/vnd.oci.image.index.v1+json',
      'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
      'application/vnd.oci.image.layer.v1.tar',
      'application/vnd.oci.image.layer.v1.tar+gzip',
      'application/vnd.oci.image.layer.v1.tar+zstd',
      'application/vnd.oci.image.manifest.v1+json',
    ].sort(),
  );
});

const all = { seed: 1, platforms: PLATFORMS, layers: 2, family: 'oci', nested: true, attestations: true } as const;

test('leaves every byte as it is when nothing is to change', async () => {
  const image = generateImage(all);
  const result = await run(image, {});
  expect(result.root).toEqual(image.root);
  expect(result.documents).toEqual([]);
  expect(result.images.map(({ source }) => source)).toEqual(result.images.map(({ target }) => target));
});

const signed = [{ ...gzip.layer, mediaType: 'application/vnd.dev.cosign.simplesigning.v1+json' }];
const helm = { ...gzip.layer, mediaType: 'application/vnd.cncf.helm.config.v1+json' };

test.each([
  ['a signature', { layers: signed }],
  ['a signature whose config is of no type', { layers: signed, config: { ...helm, mediaType: 'application/json' } }],
  ['a chart', { config: helm }],
])('leaves %s as it is', async (_, manifest) => {
  const image = generateImage({ ...all, index: false, manifest });
  expect(await run(image, { env: { A: '1' } })).toMatchObject({ root: image.root, documents: [], images: [] });
});

test('serves the image itself for one platform', async () => {
  const image = generateImage(all);
  const result = await run(image, { platforms: ['linux/arm/v7'], env: { A: '1' } });
  expect(result.root.digest).toBe(result.images[0]?.target);
  expect(result.config()).toMatchObject({ architecture: 'arm', variant: 'v7' });
  expect(result.images).toHaveLength(1);
});

test('serves the untouched image for one platform without changes', async () => {
  const image = generateImage(all);
  const result = await run(image, { platforms: ['linux/arm64'] });
  expect(image.content.has(result.root.digest)).toBe(true);
  expect(result.documents).toEqual([]);
});

test('serves a flat index of exactly the platforms asked for, in the order of the source', async () => {
  const result = await run(generateImage({ ...all, artifact: true }), {
    platforms: ['windows/amd64', 'linux/arm64', 'linux/amd64'],
    labels: { a: 'b' },
  });
  const platforms = result.rootJson.manifests.map((entry: { platform: object }) => entry.platform);
  expect(platforms).toEqual([
    { os: 'linux', architecture: 'amd64' },
    { os: 'linux', architecture: 'arm64' },
    { os: 'windows', architecture: 'amd64' },
  ]);
  expect(await checkImage(result.root, result.read)).toHaveLength(3);
});

test.each([
  [
    'an index',
    { ...all, platforms: ['linux/amd64', 'linux/arm64'] },
    'no image for linux/s390x; there is linux/amd64, linux/arm64',
  ],
  [
    'an index that names no platforms',
    { ...all, platforms: ['linux/amd64'], noPlatform: true },
    'no image for linux/s390x; there is linux/amd64',
  ],
  ['a single image', { ...all, index: false }, 'no image for linux/s390x; there is linux/amd64'],
])('names the platforms that %s lacks and those it has', async (_, options, message) => {
  const pull = run(generateImage(options), { platforms: ['linux/amd64', 'linux/s390x'] });
  await expect(pull).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN', message });
});

test('refuses an index without any image', async () => {
  const pull = run(generateImage({ ...all, platforms: [], nested: false, artifact: true }), { env: { A: '1' } });
  await expect(pull).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
});
