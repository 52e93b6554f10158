// Provenance of derived images: an artifact about each, by its digest.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { stepsSchema } from '../../src/augment/augmentation.ts';
import { createProvenance, PROVENANCE_TYPE, type Provenance } from '../../src/augment/provenance.ts';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { parseManifest } from '../../src/oci/manifest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { generateImage } from '../support/images.ts';
import { createLayer, run } from './fixture.ts';

const name = 'example.org/app:1';
const shape = {
  seed: 9,
  platforms: ['linux/amd64', 'linux/arm64', 'windows/amd64'],
  layers: 1,
  family: 'oci',
} as const;
const { layer } = createLayer('x', 'gzip');
const { layer: armLayer } = createLayer('y', 'gzip', ['linux/arm64']);
const rules = [
  { rule: 'ca', platforms: ['linux/*'], augmentation: { layers: [layer, armLayer], env: { CA: '/ca.pem' } } },
  { rule: 'arm', platforms: ['linux/arm64'], augmentation: { labels: { arm: 'yes' } } },
];

async function tell(image = generateImage(shape), input: readonly object[] = rules) {
  const augmented = await run(image, input);
  const source = { name, digest: image.root.digest };
  return { ...augmented, provenance: createProvenance(source, augmented, stepsSchema.parse(input)) };
}

function payloadOf({ documents: [, payload] }: Provenance): unknown {
  return JSON.parse(new TextDecoder().decode(payload?.raw));
}

test('is an artifact about each image and index that was made, whose every digest is right', async () => {
  const { provenance, root, images } = await tell();
  expect(provenance.map(({ subject }) => subject)).toEqual([root.digest, images[0]?.target, images[1]?.target]);
  for (const { subject, descriptor, documents } of provenance) {
    for (const { raw, digest, size } of documents) expect([digest, size]).toEqual([digestOf(raw), raw.byteLength]);
    const [manifest, payload, config] = documents;
    expect(descriptor).toEqual({
      mediaType: mediaTypes.ociManifest,
      digest: manifest?.digest,
      size: manifest?.size,
      artifactType: PROVENANCE_TYPE,
    });
    expect(JSON.parse(Buffer.from(manifest?.raw ?? []).toString())).toMatchObject({
      artifactType: PROVENANCE_TYPE,
      config: { mediaType: mediaTypes.ociEmpty, digest: config?.digest, size: 2 },
      layers: [{ mediaType: PROVENANCE_TYPE, digest: payload?.digest, size: payload?.size }],
      subject: { digest: subject },
    });
    expect(parseManifest(manifest?.raw ?? new Uint8Array(), mediaTypes.ociManifest).kind).toBe('other');
  }
});

test('tells of an index its source, and all rules with their platforms', async () => {
  const {
    provenance: [ofRoot],
  } = await tell();
  expect(ofRoot && payloadOf(ofRoot)).toEqual({
    source: { name, digest: generateImage(shape).root.digest },
    rules: ['ca', 'arm'],
    steps: stepsSchema.parse(rules).map(({ augmentation, ...step }) => ({ ...step, changes: augmentation })),
  });
});

test('tells of an image its source and platform, and what the steps for it changed', async () => {
  const { provenance, images } = await tell();
  const [, ofAmd64, ofArm64] = provenance.map(payloadOf);
  const index = generateImage(shape).root.digest;
  expect(ofAmd64).toEqual({
    source: { name, digest: images[0]?.source, index },
    platform: 'linux/amd64',
    rules: ['ca'],
    steps: [{ rule: 'ca', changes: { layers: [layer], env: { CA: '/ca.pem' } } }],
  });
  expect(ofArm64).toEqual({
    source: { name, digest: images[1]?.source, index },
    platform: 'linux/arm64',
    rules: ['ca', 'arm'],
    steps: [
      { rule: 'ca', changes: { layers: [layer, armLayer], env: { CA: '/ca.pem' } } },
      { rule: 'arm', changes: { layers: [], labels: { arm: 'yes' } } },
    ],
  });
});

test('is reported once of a single image, and has no rule for what a token asks for', async () => {
  const image = generateImage({ ...shape, index: false });
  const { provenance, root } = await tell(image, [{ augmentation: { user: 'me', platforms: ['linux/amd64'] } }]);
  expect(provenance.map(({ subject }) => subject)).toEqual([root.digest]);
  expect(provenance.map(payloadOf)).toEqual([
    {
      source: { name, digest: image.root.digest },
      platform: 'linux/amd64',
      rules: [],
      steps: [{ changes: { layers: [], user: 'me' } }],
    },
  ]);
});

test('is reported of an index that was made by a choice alone, and not of its images', async () => {
  const { provenance, root } = await tell(undefined, [{ augmentation: { platforms: ['linux/amd64', 'linux/arm64'] } }]);
  expect(provenance.map(({ subject }) => subject)).toEqual([root.digest]);
});

test('is not made for what stays as it is', async () => {
  const { provenance } = await tell(undefined, [
    { rule: 'none', platforms: ['freebsd/*'], augmentation: { user: 'me' } },
  ]);
  expect(provenance).toEqual([]);
});

test('is of Docker’s images too', async () => {
  const { provenance, root } = await tell(generateImage({ ...shape, family: 'docker' }));
  expect(provenance[0]?.subject).toBe(root.digest);
  expect(provenance).toHaveLength(3);
});

test('has the same bytes each time, also for steps that were stored in between', async () => {
  const steps = fc.subarray(rules, { minLength: 1 });
  await fc.assert(
    fc.asyncProperty(fc.integer(), steps, async (seed, some) => {
      const image = generateImage({ ...shape, seed });
      const turned = some.map(({ augmentation, ...step }) => ({
        augmentation: Object.fromEntries(Object.entries(augmentation).reverse()),
        ...step,
      }));
      const digests = async (input: readonly object[]): Promise<readonly Digest[]> =>
        (await tell(image, input)).provenance.flatMap(({ documents }) => documents.map(({ digest }) => digest));
      const first = await digests(some);
      expect(await digests(JSON.parse(JSON.stringify(stepsSchema.parse(some))))).toEqual(first);
      expect(await digests(turned)).toEqual(first);
    }),
    { numRuns: 30 },
  );
});

test('differs with the name of a rule, and nothing else of the image does', async () => {
  const first = await tell();
  const second = await tell(
    undefined,
    rules.map(step => ({ ...step, rule: `other-${step.rule}` })),
  );
  expect(second.root).toEqual(first.root);
  for (const [i, { descriptor }] of second.provenance.entries()) {
    expect(descriptor.digest).not.toBe(first.provenance[i]?.descriptor.digest);
  }
});
