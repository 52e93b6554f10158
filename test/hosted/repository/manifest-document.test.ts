// What is pushed as a manifest: null where nothing is counts as absent, and what is odd is named.
import { expect, test } from 'vitest';
import { parseDocument } from '../../../src/hosted/repository/manifest-document.ts';
import { digestOf } from '../../../src/oci/digest.ts';
import { mediaTypes } from '../../../src/oci/media-type.ts';

const entry = { mediaType: mediaTypes.ociManifest, digest: digestOf(Buffer.from('x')), size: 1 };

function push(document: object) {
  const index = { schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests: [entry], ...document };
  return parseDocument(Buffer.from(JSON.stringify(index)), mediaTypes.ociIndex);
}

test.each([
  ['of a platform', { platform: null }],
  ['within a platform', { platform: { os: 'linux', architecture: 'amd64', variant: null } }],
  ['of annotations', { annotations: null }],
  ['within annotations', { annotations: { a: null } }],
  ['of other addresses', { urls: null }],
  ['of an artifact type', { artifactType: null }],
])('an entry may have null in the place %s', (_, odd) => {
  expect(push({ manifests: [entry, { ...entry, ...odd }] }).manifests.map(({ digest }) => digest)).toEqual([
    entry.digest,
    entry.digest,
  ]);
});

test('a document may have null for what it has not', () => {
  const document = push({ annotations: { a: null }, subject: null, artifactType: null });
  expect(document).toMatchObject({ subject: undefined, annotations: { a: '' } });
});

test.each([
  [
    { manifests: [entry, { ...entry, size: '12' }] },
    'manifests[1].size: Invalid input: expected number, received string',
  ],
  [
    { manifests: [{ ...entry, platform: 'linux' }] },
    'manifests[0].platform: Invalid input: expected object, received string',
  ],
  [{ subject: { ...entry, digest: 'x' } }, 'subject.digest: expected sha256:<64 hex> or sha512:<128 hex>'],
])('%j is refused, and named', (odd, message) => {
  expect(() => push(odd)).toThrow(`invalid manifest: ${message}`);
});
