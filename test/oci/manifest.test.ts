// Manifests: each document has one meaning or is refused, and its bytes are kept.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { RegistryError } from '../../src/oci/errors.ts';
import { MAX_MANIFEST_BYTES, parseManifest } from '../../src/oci/manifest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';

const { ociIndex, ociManifest, ociConfig, ociEmpty, dockerList, dockerManifest, dockerConfig } = mediaTypes;

function parse(value: unknown, contentType = '') {
  return parseManifest(Buffer.from(JSON.stringify(value)), contentType);
}

function descriptor(mediaType: string, rest: object = {}) {
  return { mediaType, digest: digestOf(Buffer.from(mediaType)), size: 7, ...rest };
}

const layer = descriptor('application/vnd.oci.image.layer.v1.tar+gzip');
const image = { schemaVersion: 2, mediaType: ociManifest, config: descriptor(ociConfig), layers: [layer] };
const index = { schemaVersion: 2, mediaType: ociIndex, manifests: [descriptor(ociManifest)] };
const { mediaType: _image, ...untypedImage } = image;
const { mediaType: _index, ...untypedIndex } = index;

test.each([
  ['an OCI image', image, ociManifest, 'image', ociManifest],
  ['a Docker image', { ...image, mediaType: dockerManifest }, dockerManifest, 'image', dockerManifest],
  ['an OCI index', index, ociIndex, 'index', ociIndex],
  ['a Docker list', { ...index, mediaType: dockerList }, dockerList, 'index', dockerList],
  [
    'a content type with parameters, in capitals',
    image,
    `${ociManifest.toUpperCase()} ; charset=utf-8`,
    'image',
    ociManifest,
  ],
  ['an image without mediaType', untypedImage, ociManifest, 'image', ociManifest],
  ['an index without mediaType', untypedIndex, dockerList, 'index', dockerList],
  ['an image without any type', untypedImage, '', 'image', ociManifest],
  [
    'a Docker image without any type',
    { ...untypedImage, config: descriptor(dockerConfig) },
    'text/plain',
    'image',
    dockerManifest,
  ],
  ['an index without any type', untypedIndex, 'application/json', 'index', ociIndex],
  ['an image of a generic type', { ...image, mediaType: dockerManifest }, 'application/json', 'image', dockerManifest],
  ['an image with a null mediaType', { ...image, mediaType: null }, '', 'image', ociManifest],
  ['an artifact by its config', { ...image, config: descriptor(ociEmpty) }, ociManifest, 'other', ociManifest],
  ['an image, whatever its artifactType', { ...image, artifactType: 'test/sbom' }, ociManifest, 'image', ociManifest],
  ['an image without layers', { ...image, layers: [] }, ociManifest, 'image', ociManifest],
  ['an image with layers of no type', { ...image, layers: [descriptor('')] }, ociManifest, 'image', ociManifest],
  [
    'an image whose config has no type',
    { ...image, config: descriptor('application/octet-stream') },
    ociManifest,
    'image',
    ociManifest,
  ],
  [
    'an artifact whose config has no type',
    { ...image, config: descriptor('application/json'), layers: [descriptor('application/json')] },
    ociManifest,
    'other',
    ociManifest,
  ],
  [
    'a signature by its layers',
    { ...image, layers: [descriptor('test/signature')] },
    ociManifest,
    'other',
    ociManifest,
  ],
  [
    'a model of very many layers',
    { ...image, config: descriptor('test/model'), layers: Array(5000).fill(layer) },
    ociManifest,
    'other',
    ociManifest,
  ],
  [
    'a Helm chart',
    { ...image, config: descriptor('application/vnd.cncf.helm.config.v1+json') },
    ociManifest,
    'other',
    ociManifest,
  ],
  ['a type that we do not know', image, 'application/vnd.test+json', 'other', 'application/vnd.test+json'],
  ['a document that declares a type that we do not know', { ...index, mediaType: 'test/x' }, '', 'other', 'test/x'],
  ['an object of no type', {}, '', 'other', 'application/octet-stream'],
])('reads %s', (_name, value, contentType, kind, mediaType) => {
  expect(parse(value, contentType)).toMatchObject({ kind, mediaType });
});

test('gives descriptors as they are, and an empty list for null', () => {
  const platform = { os: 'linux', architecture: 'arm', variant: 'v7' };
  expect(parse(image)).toMatchObject({ config: image.config, layers: [layer] });
  expect(parse({ ...index, manifests: [descriptor(ociManifest, { platform })] })).toMatchObject({
    manifests: [{ mediaType: ociManifest, size: 7, platform }],
  });
  expect(parse({ ...image, layers: null })).toMatchObject({ kind: 'image', layers: [] });
});

test.each([
  ['platform', null],
  ['platform', {}],
  ['platform', { architecture: 'amd64' }],
  ['platform', { os: null, architecture: null, variant: null }],
  ['annotations', null],
  ['annotations', { a: null }],
  ['urls', null],
  ['artifactType', null],
])('takes an entry whose %s is %j for one without', (field, value) => {
  const entry = descriptor(ociManifest);
  const read = parse({ ...index, manifests: [{ ...entry, [field]: value }, entry] });
  if (read.kind !== 'index') throw new Error(read.kind);
  expect(read.manifests.map(({ platform, artifactType }) => platform ?? artifactType)).toEqual([undefined, undefined]);
  expect(read.entries).toHaveLength(2);
});

test('takes null for a size and a type as Go does, and a variant of null for none', () => {
  const platform = { os: 'linux', architecture: 'arm', variant: null };
  const entry = { digest: image.config.digest, mediaType: null, size: null, platform };
  expect(parse({ ...index, manifests: [entry] })).toMatchObject({
    manifests: [{ mediaType: '', size: 0, platform: { os: 'linux', architecture: 'arm' } }],
  });
});

test.each([
  [{ digest: 'sha256:x' }, 'manifests[1].digest: expected sha256:<64 hex> or sha512:<128 hex>'],
  [{ digest: image.config.digest.toUpperCase() }, 'manifests[1].digest: expected sha256:<64 hex> or sha512:<128 hex>'],
  [{ size: '12' }, 'manifests[1].size: Invalid input: expected number, received string'],
  [{ size: 1.5 }, 'manifests[1].size: Invalid input: expected int, received number'],
  [{ platform: 'linux/amd64' }, 'manifests[1].platform: Invalid input: expected object, received string'],
  [{ annotations: { a: 1 } }, 'manifests[1].annotations.a: Invalid input: expected string, received number'],
])('an entry with %j spoils no other, and is named', (odd, fault) => {
  const entry = descriptor(ociManifest);
  const read = parse({ ...index, manifests: [entry, { ...entry, ...odd }, entry] });
  if (read.kind !== 'index') throw new Error(read.kind);
  expect(read.manifests).toHaveLength(2);
  expect(read.entries[1]).toBe(fault);
});

test('names the layer that is odd, and its field', () => {
  const odd = { ...image, layers: [layer, { ...layer, size: 'x' }] };
  expect(() => parse(odd, ociManifest)).toThrow('invalid manifest: layers[1].size: Invalid input');
});

test.each(['binary/octet-stream', 'application/x-json', 'text/json', 'application/unknown', 'text/xml'])(
  'believes the document where it is served as %s',
  contentType => {
    expect(parse(image, contentType)).toMatchObject({ kind: 'image', mediaType: ociManifest });
    expect(parse(untypedIndex, contentType)).toMatchObject({ kind: 'index', mediaType: ociIndex });
  },
);

describe('refuses', () => {
  test.each([
    ['an index with layers', { ...untypedIndex, layers: [layer] }, ''],
    ['an index with a config', { ...index, config: image.config }, ociIndex],
    ['an image with manifests', { ...image, manifests: [] }, ociManifest],
    ['an image with manifests of null', { ...image, manifests: null }, ociManifest],
    ['an image served as an index', image, ociIndex],
    ['an image served as an index, without mediaType', untypedImage, ociIndex],
    ['an index served as an image', index, ociManifest],
    ['an index served as an image, without mediaType', untypedIndex, ociManifest],
    ['an OCI image served as Docker', image, dockerManifest],
    ['an image that says it is an index', { ...image, mediaType: ociIndex }, ''],
    ['an index that says it is an image', { ...index, mediaType: ociManifest }, ''],
    ['schema 1 by its content type', image, 'application/vnd.docker.distribution.manifest.v1+prettyjws'],
    ['schema 1 by its version', { ...untypedImage, schemaVersion: 1 }, ''],
    ['schema 1 by its layers', { fsLayers: [] }, 'application/json'],
    ['schema 1 by its mediaType', { mediaType: 'application/vnd.docker.distribution.manifest.v1+json' }, ''],
    ['an image without layers', { ...image, layers: undefined }, ociManifest],
    ['an image without a config', { ...image, config: undefined }, ociManifest],
    ['layers that are no list', { ...image, layers: {} }, ociManifest],
    ['a layer without a digest', { ...image, layers: [{ mediaType: 'a', size: 1 }] }, ociManifest],
    ['a layer with a negative size', { ...image, layers: [{ ...layer, size: -1 }] }, ociManifest],
    ['a layer with a size beyond counting', { ...image, layers: [{ ...layer, size: 2 ** 60 }] }, ociManifest],
    ['a digest that is a path', { ...image, config: { ...image.config, digest: 'sha256:../../x' } }, ociManifest],
    ['too many entries', { ...index, manifests: Array(4097).fill(descriptor(ociManifest)) }, ociIndex],
    ['a list', [], ''],
    ['null', null, ociManifest],
  ])('%s', (_name, value, contentType) => {
    expect(() => parse(value, contentType)).toThrow(expect.objectContaining({ code: 'MANIFEST_INVALID', status: 400 }));
  });

  test.each([
    ['no bytes', Buffer.alloc(0)],
    ['what is not UTF-8', Buffer.from([0x22, 0xff, 0x22])],
    ['more bytes than the limit', Buffer.from(JSON.stringify(image).padEnd(MAX_MANIFEST_BYTES + 1))],
  ])('%s', (_name, raw) => {
    expect(() => parseManifest(raw, ociManifest)).toThrow(expect.objectContaining({ code: 'MANIFEST_INVALID' }));
  });
});

test('has the digest that its bytes were verified by', () => {
  const raw = Buffer.from(JSON.stringify(image));
  expect(parseManifest(raw, ociManifest, digestOf(raw, 'sha512')).digest).toBe(digestOf(raw, 'sha512'));
});

test('reads as many bytes as the limit', () => {
  const raw = Buffer.from(JSON.stringify(image).padEnd(MAX_MANIFEST_BYTES));
  expect(parseManifest(raw, ociManifest).kind).toBe('image');
});

const contentTypes = fc.oneof(fc.constantFrom('', 'application/json', ...Object.values(mediaTypes)), fc.string());
const part = fc.oneof(fc.jsonValue(), fc.constantFrom(...Object.values(mediaTypes), image.config, [layer], []));
const documents = fc.dictionary(
  fc.constantFrom(
    'schemaVersion',
    'mediaType',
    'artifactType',
    'config',
    'layers',
    'manifests',
    'fsLayers',
    '__proto__',
  ),
  part,
);
const bytes = fc.oneof(
  fc.uint8Array(),
  documents.map(value => new TextEncoder().encode(JSON.stringify(value))),
  documents.map(value => new TextEncoder().encode(JSON.stringify({ ...image, ...value }))),
);

test('any bytes are a manifest with those bytes and their digest, or a RegistryError', () => {
  fc.assert(
    fc.property(bytes, contentTypes, (raw, contentType) => {
      const before = Buffer.from(raw);
      try {
        const manifest = parseManifest(raw, contentType);
        expect(manifest.raw).toBe(raw);
        expect(manifest.digest).toBe(digestOf(before));
      } catch (error) {
        if (!(error instanceof RegistryError)) throw error;
      }
    }),
    { numRuns: 1000 },
  );
});
