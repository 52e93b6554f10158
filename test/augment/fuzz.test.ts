// Images that nobody ought to have made: each is augmented wholly, or refused with a RegistryError.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { augment } from '../../src/augment/augment.ts';
import { augmentationSchema } from '../../src/augment/augmentation.ts';
import type { ContentDescriptor } from '../../src/oci/descriptor.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { RegistryError } from '../../src/oci/errors.ts';
import { parseManifest } from '../../src/oci/manifest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import type { Content } from '../support/images.ts';
import { placeOnImageAsGiven } from '../support/placing.ts';
import { createLayer, readerOf } from './fixture.ts';

const { ociIndex, ociManifest, ociConfig, dockerManifest, dockerConfig } = mediaTypes;
const layer = createLayer('x', 'gzip');
const augmentation = augmentationSchema.parse({ env: { A: '1' }, layers: [layer.layer], attestations: 'keep' });

/** A change of some value within a document: `at` picks it, `value` takes its place; without one it goes. */
interface Mutation {
  readonly at: number;
  readonly value: unknown;
}

const oddValues = fc.oneof(
  fc.constantFrom(...Object.values(mediaTypes), 'text/html', '', null, [], {}, 0, 2 ** 53, 'unknown', 'sha256:x'),
  fc.constantFrom('application/vnd.oci.image.layer.v1.tar', 'vnd.docker.reference.type', { os: 'unknown' }),
  fc.jsonValue({ maxDepth: 2 }),
  fc.constant(undefined),
);
const mutations = fc.array(fc.record({ at: fc.nat(), value: oddValues }), { maxLength: 2 });

test('augments every image of a strange index, or refuses it', async () => {
  let augmented = 0;
  await fc.assert(
    fc.asyncProperty(mutations, mutations, mutations, async (config, manifest, index) => {
      const content = new Map<string, Content>();
      const root = addIndex(content, { config, manifest, index });
      try {
        const reader = readerOf(content);
        const reading = { reader, place: placeOnImageAsGiven };
        const result = await augment(await reader.readManifest(root), [{ augmentation }], reading);
        const made = new Map(result.documents.map(document => [document.digest, document]));
        expect(imagesBelow(result.root, new Map([...content, ...made])).filter(digest => content.has(digest))).toEqual(
          [],
        );
        augmented += result.images.length > 0 ? 1 : 0;
      } catch (error) {
        if (!(error instanceof RegistryError)) throw error;
      }
    }),
    { numRuns: 2000 },
  );
  expect(augmented).toBeGreaterThan(100);
});

/** An OCI and a Docker image in an index; all three kinds of documents are mutated. */
function addIndex(content: Map<string, Content>, by: Record<'config' | 'manifest' | 'index', readonly Mutation[]>) {
  const images = [
    { manifestType: ociManifest, configType: ociConfig, layerType: 'application/vnd.oci.image.layer.v1.tar+gzip' },
    {
      manifestType: dockerManifest,
      configType: dockerConfig,
      layerType: 'application/vnd.docker.image.rootfs.diff.tar',
    },
  ];
  const manifests = images.map(({ manifestType, configType, layerType }, i) => {
    const config = {
      os: 'linux',
      architecture: i === 0 ? 'amd64' : 'arm64',
      config: { Env: ['A=0'], Labels: { a: 'b' } },
      rootfs: { type: 'layers', diff_ids: [layer.layer.diffId] },
      history: [{ created_by: 'x' }],
    };
    const document = {
      schemaVersion: 2,
      mediaType: manifestType,
      config: add(content, configType, mutate(config, by.config)),
      layers: [{ mediaType: layerType, digest: layer.layer.digest, size: layer.layer.size }],
      annotations: { a: 'b' },
    };
    const entry = add(content, manifestType, mutate(document, by.manifest));
    return { ...entry, platform: { os: 'linux', architecture: config.architecture }, annotations: { c: 'd' } };
  });
  return add(content, ociIndex, mutate({ schemaVersion: 2, mediaType: ociIndex, manifests }, by.index));
}

function add(content: Map<string, Content>, mediaType: string, document: unknown): ContentDescriptor {
  const raw = Buffer.from(JSON.stringify(document) ?? '');
  const digest = digestOf(raw);
  content.set(digest, { mediaType, raw });
  return { mediaType, digest, size: raw.byteLength };
}

function mutate(document: unknown, by: readonly Mutation[]): unknown {
  return by.reduce((current, { at, value }) => {
    const places = JSON.stringify(current)?.match(/[[{:,]/g)?.length ?? 1;
    let left = at % places;
    return JSON.parse(JSON.stringify(current, (_key, old) => (left-- === 0 ? value : old)) ?? 'null');
  }, document);
}

/** The digests of all that a client could take for an image, whatever an entry says of it. */
function imagesBelow(
  { digest, mediaType }: ContentDescriptor,
  content: ReadonlyMap<string, Content>,
): readonly string[] {
  const found = content.get(digest);
  const manifest = found && parseManifest(found.raw, found.mediaType || mediaType);
  if (manifest?.kind === 'image') return [digest];
  return manifest?.kind === 'index' ? manifest.manifests.flatMap(entry => imagesBelow(entry, content)) : [];
}
