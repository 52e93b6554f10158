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

test('takes an entry for an attestation when only its config says that it runs nowhere', async () => {
  const platforms = ['linux/amd64', 'unknown/unknown'];
  const { rootJson } = await run(generateImage({ ...two, platforms, noPlatform: true }), change);
  expect(rootJson.manifests).toHaveLength(1);
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
