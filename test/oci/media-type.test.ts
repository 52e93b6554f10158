// Media types: families, and how layers are packed.
import { expect, test } from 'vitest';
import {
  ACCEPT_MANIFESTS,
  compressionOf,
  familyOf,
  isGenericType,
  isImageConfigType,
  isIndexType,
  isLayerType,
  isManifestType,
  isSchema1Type,
  layerType,
  mediaTypes,
} from '../../src/oci/media-type.ts';

test.each([
  [mediaTypes.ociIndex, { index: true, manifest: false, config: false, family: 'oci' }],
  [mediaTypes.ociManifest, { index: false, manifest: true, config: false, family: 'oci' }],
  [mediaTypes.ociConfig, { index: false, manifest: false, config: true, family: 'oci' }],
  [mediaTypes.ociEmpty, { index: false, manifest: false, config: false, family: 'oci' }],
  [mediaTypes.dockerList, { index: true, manifest: false, config: false, family: 'docker' }],
  [mediaTypes.dockerManifest, { index: false, manifest: true, config: false, family: 'docker' }],
  [mediaTypes.dockerConfig, { index: false, manifest: false, config: true, family: 'docker' }],
])('knows %s', (mediaType, expected) => {
  expect({
    index: isIndexType(mediaType),
    manifest: isManifestType(mediaType),
    config: isImageConfigType(mediaType),
    family: familyOf(mediaType),
  }).toEqual(expected);
});

test.each([
  ['application/vnd.docker.distribution.manifest.v1+json', true],
  ['application/vnd.docker.distribution.manifest.v1+prettyjws', true],
  [mediaTypes.dockerManifest, false],
])('tells whether %s is schema 1', (mediaType, expected) => {
  expect(isSchema1Type(mediaType)).toBe(expected);
});

test('asks upstreams for images and indexes, not for schema 1', () => {
  const accepted = ACCEPT_MANIFESTS.split(', ');
  expect(accepted.toSorted()).toEqual(
    [mediaTypes.ociIndex, mediaTypes.ociManifest, mediaTypes.dockerList, mediaTypes.dockerManifest].toSorted(),
  );
});

test.each([
  ['oci', 'none'],
  ['oci', 'gzip'],
  ['oci', 'zstd'],
  ['docker', 'none'],
  ['docker', 'gzip'],
] as const)('a layer of %s packed by %s has a type that says both', (family, compression) => {
  const mediaType = layerType(family, compression) ?? '';
  expect(familyOf(mediaType)).toBe(family);
  expect(compressionOf(mediaType)).toBe(compression);
});

test('Docker has no zstd of its own, but what others call so is understood', () => {
  expect(layerType('docker', 'zstd')).toBeUndefined();
  expect(compressionOf('application/vnd.docker.image.rootfs.diff.tar.zstd')).toBe('zstd');
});

test.each([
  'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
  'application/vnd.oci.image.layer.v1.tar+encrypted',
  mediaTypes.ociConfig,
  'constructor',
  '',
])('"%s" is no layer that we can read', mediaType => {
  expect(compressionOf(mediaType)).toBeUndefined();
});

test.each([
  ['application/vnd.oci.image.layer.v1.tar+zstd', true],
  ['application/vnd.oci.image.layer.nondistributable.v1.tar+gzip', true],
  ['application/vnd.docker.image.rootfs.foreign.diff.tar.gzip', true],
  ['application/vnd.in-toto+json', false],
  ['application/vnd.test.image.layer.v1.tar', false],
  ['', false],
])('tells whether %s is a layer of a file system', (mediaType, expected) => {
  expect(isLayerType(mediaType)).toBe(expected);
});

test.each([
  ['', true],
  ['application/octet-stream', true],
  ['text/html', true],
  [mediaTypes.ociConfig, false],
])('tells whether "%s" says nothing', (mediaType, expected) => {
  expect(isGenericType(mediaType)).toBe(expected);
});
