// Manifests: what is accepted and kept to the byte, and what is refused and why.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createUploadFiles } from '../../../src/content/upload-files.ts';
import { createHostedRepositories, type HostedRepositories } from '../../../src/hosted/repositories.ts';
import type { ManifestPush } from '../../../src/hosted/repository/manifests.ts';
import { createHostedStore } from '../../../src/hosted/store.ts';
import { createMemory } from '../../../src/memory.ts';
import { digestOf } from '../../../src/oci/digest.ts';
import { mediaTypes } from '../../../src/oci/media-type.ts';
import { createSharedLocks } from '../../../src/state/locks.ts';
import {
  bytes,
  config,
  createPlace,
  descriptorOf,
  empty,
  json,
  LAYER,
  layer,
  type Place,
  pushBlob,
  pushParts,
  putManifest,
  small,
  smallManifest,
} from '../fixture.ts';

let place: Place;
let hosted: HostedRepositories;

beforeEach(async () => {
  place = await createPlace();
  hosted = await place.open();
});

afterEach(() => place.remove());

describe('a manifest is accepted', () => {
  beforeEach(() => pushParts(hosted));

  const base = {
    schemaVersion: 2,
    config: descriptorOf(config, mediaTypes.ociConfig),
    layers: [descriptorOf(layer, LAYER)],
  };
  const absent = descriptorOf(bytes('never pushed'), LAYER);
  test.each<[string, Record<string, unknown>, string?]>([
    ['with unknown fields, odd spacing and order', { 'x-last': [1, { b: 2, a: 1 }], ...base }],
    ['without layers', { ...base, layers: [] }],
    ['with data fields', { ...base, config: { ...descriptorOf(empty, mediaTypes.ociEmpty), data: 'e30=' } }],
    ['with a subject that is not there', { ...base, subject: { ...absent, size: 123 } }],
    ['as an artifact', { ...base, artifactType: 'text/x', config: descriptorOf(empty, mediaTypes.ociEmpty) }],
    ['with a layer that is fetched from elsewhere', { ...base, layers: [{ ...absent, urls: ['https://x.example/'] }] }],
    [
      'with layers that are not distributed',
      {
        ...base,
        layers: ['tar', 'tar+gzip', 'tar+zstd'].map(packed => ({
          ...absent,
          mediaType: `application/vnd.oci.image.layer.nondistributable.v1.${packed}`,
        })),
      },
    ],
    [
      'with a foreign layer of Docker',
      {
        ...base,
        layers: [{ ...absent, mediaType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip' }],
      },
      mediaTypes.dockerManifest,
    ],
    [
      'as a sparse index',
      { schemaVersion: 2, manifests: [{ ...absent, mediaType: mediaTypes.ociManifest }] },
      mediaTypes.ociIndex,
    ],
    ['as an index of blobs', { schemaVersion: 2, manifests: [descriptorOf(layer, LAYER)] }, mediaTypes.ociIndex],
    [
      'of a type that we do not know',
      { config: 'anything', layers: [7, absent], subject: 'x' },
      'application/vnd.acme+json',
    ],
    ['with a field named as another type names its own', { ...base, blobs: 'mine' }],
  ])('%s', async (_, document, contentType = mediaTypes.ociManifest) => {
    const raw = bytes(` ${JSON.stringify(document, null, 3)}\n`);
    const pushed = await putManifest(hosted, 'local/app', raw, { contentType, tags: ['a'] });
    expect(pushed).toMatchObject({ digest: digestOf(raw), mediaType: contentType, size: raw.byteLength });
    const kept = await hosted.manifests.get('local/app', pushed.digest);
    expect(Buffer.compare(kept.raw, raw)).toBe(0);
    expect(kept.mediaType).toBe(contentType);
  });

  test('of just 4 MiB, and not one byte more', async () => {
    const padding = (size: number) => smallManifest(config, layer, { annotations: { a: 'A'.repeat(size) } });
    const store = 4 * 1024 * 1024 - padding(0).byteLength;
    await putManifest(hosted, 'local/app', padding(store));
    const refused = { code: 'SIZE_INVALID', status: 413, message: expect.stringContaining('4194304') };
    await expect(putManifest(hosted, 'local/app', padding(store + 1))).rejects.toMatchObject(refused);
  });

  test.each(['sha256', 'sha512'] as const)('by its digest of %s, with tags beside it', async algorithm => {
    const digest = digestOf(small, algorithm);
    const pushed = await putManifest(hosted, 'local/app', small, { digest, tags: ['1', '1.2', '1'] });
    expect(pushed.digest).toBe(digest);
    expect((await hosted.tags.list('local/app', {})).tags).toEqual(['1', '1.2']);
    expect(await hosted.tags.resolve('local/app', '1.2')).toBe(digest);
    const kept = await hosted.manifests.get('local/app', digest);
    expect([kept.digest, kept.raw.byteLength]).toEqual([digest, small.byteLength]);
  });

  test('as an image of sha512 all through', async () => {
    const wide = (content: Uint8Array, mediaType: string) => descriptorOf(content, mediaType, 'sha512');
    for (const content of [config, layer]) await pushBlob(hosted, 'local/wide', content, digestOf(content, 'sha512'));
    const image = json({ schemaVersion: 2, config: wide(config, mediaTypes.ociConfig), layers: [wide(layer, LAYER)] });
    const index = json({ schemaVersion: 2, manifests: [wide(image, mediaTypes.ociManifest)] });
    const digest = digestOf(index, 'sha512');
    await putManifest(hosted, 'local/wide', image, { digest: digestOf(image, 'sha512') });
    hosted = await place.open({ sparse: 'refuse' });
    await putManifest(hosted, 'local/wide', index, { contentType: mediaTypes.ociIndex, digest });
    expect((await hosted.manifests.get('local/wide', digest)).kind).toBe('index');
  });

  test('twice', async () => {
    await putManifest(hosted, 'local/app', small, { tags: ['a'] });
    await putManifest(hosted, 'local/app', small, { tags: ['b'] });
    expect((await hosted.tags.list('local/app', {})).tags).toEqual(['a', 'b']);
    await hosted.manifests.delete('local/app', digestOf(small));
    await hosted.blobs.delete('local/app', digestOf(layer));
  });

  test.each([
    ['with parameters', `${mediaTypes.ociManifest}; charset=utf-8`],
    ['in another case', 'Application/VND.oci.image.manifest.v1+json'],
    ['of none', ''],
  ])('for a Content-Type %s', async (_, contentType) => {
    const { mediaType } = await putManifest(hosted, 'local/app', small, { contentType });
    expect(mediaType).toBe(mediaTypes.ociManifest);
  });
});

describe('a manifest is refused', () => {
  beforeEach(() => pushParts(hosted));

  const invalid = 'MANIFEST_INVALID';
  const image = JSON.parse(new TextDecoder().decode(small));
  const without = ({ mediaType: _, ...rest }: Record<string, unknown>) => rest;
  test.each<[string, Uint8Array, Partial<ManifestPush>, string]>([
    ['that is no JSON', bytes('{'), {}, invalid],
    [
      'that is no JSON, of a type that we do not know',
      bytes('<x/>'),
      { contentType: 'application/vnd.acme+json' },
      invalid,
    ],
    ['that is no object', bytes('[]'), { contentType: 'application/vnd.acme+json' }, invalid],
    ['that is no UTF-8', Uint8Array.of(0x22, 0xff, 0x22), {}, invalid],
    ['pushed as another type than it says', small, { contentType: mediaTypes.ociIndex }, invalid],
    ['of an unknown type pushed as another', json({ mediaType: 'a/b' }), { contentType: 'a/c' }, invalid],
    ['pushed as JSON of no type', json(without(image)), { contentType: 'application/json' }, invalid],
    ['of no type at all', json(without(image)), { contentType: '' }, invalid],
    ['of a type that is none', json({ mediaType: 'a\r\nb: c' }), { contentType: '' }, invalid],
    ['that is an index and an image', json({ ...image, manifests: [] }), {}, invalid],
    [
      'of Docker schema 1',
      json({ schemaVersion: 1, fsLayers: [] }),
      { contentType: mediaTypes.dockerManifest },
      invalid,
    ],
    [
      'of Docker schema 1, signed',
      json({ schemaVersion: 1 }),
      { contentType: 'application/vnd.docker.distribution.manifest.v1+prettyjws' },
      invalid,
    ],
    ['without a config', json({ ...image, config: undefined }), {}, invalid],
    ['whose layer is no descriptor', json({ ...image, layers: [{ digest: 'sha256:x', size: 1 }] }), {}, invalid],
    ['whose subject is no descriptor', json({ ...image, subject: {} }), {}, invalid],
    ['whose annotations are no text', json({ ...image, annotations: { a: 1 } }), {}, invalid],
    ['whose descriptor lies about a size', json({ ...image, layers: [{ ...image.layers[0], size: 8 }] }), {}, invalid],
    ['of another digest than the path says', small, { digest: digestOf(layer) }, 'DIGEST_INVALID'],
    ['of another sha512 than the path says', small, { digest: digestOf(layer, 'sha512') }, 'DIGEST_INVALID'],
    ['for a tag that is none', small, { tags: ['ok', '.x'] }, 'TAG_INVALID'],
    ['for too many tags', small, { tags: Array.from({ length: 51 }, (_, i) => `t${i}`) }, 'TAG_INVALID'],
    [
      'with too many references',
      json({ layers: Array(8193).fill(descriptorOf(layer, LAYER)) }),
      { contentType: 'a/b' },
      invalid,
    ],
  ])('%s', async (_, raw, push, code) => {
    const before = await place.inventory();
    await expect(putManifest(hosted, 'local/app', raw, push)).rejects.toMatchObject({ code });
    expect(await place.inventory()).toEqual(before);
    expect(await place.records.list('hosted.manifest', { limit: 1 })).toEqual([]);
    expect((await hosted.tags.list('local/app', {})).tags).toEqual([]);
  });

  test('for an invalid name', async () => {
    await expect(putManifest(hosted, 'local/App', small)).rejects.toMatchObject({ code: 'NAME_INVALID' });
  });

  test('as another type than the repository has it, for those who pinned its digest', async () => {
    const raw = json(without(image));
    await putManifest(hosted, 'local/app', raw);
    const again = putManifest(hosted, 'local/app', raw, { contentType: mediaTypes.dockerManifest });
    await expect(again).rejects.toMatchObject({ code: invalid });
    expect((await hosted.manifests.get('local/app', digestOf(raw))).mediaType).toBe(mediaTypes.ociManifest);
  });
});

test('writes no bytes of a manifest that it refuses', async () => {
  const put = () => expect.fail('bytes were written');
  hosted = await place.open({}, { content: { ...place.content, put } });
  await expect(putManifest(hosted, 'local/app', small)).rejects.toMatchObject({ code: 'MANIFEST_BLOB_UNKNOWN' });
});

test('stores bytes that it seems to have where other processes share the records, as one of them may have deleted them', async () => {
  await pushParts(hosted);
  await putManifest(hosted, 'local/app', small);
  const { records, content } = place;
  const store = createHostedStore({
    content,
    records: { ...records, locks: createSharedLocks({ store: records }) },
    memory: createMemory(),
    now: () => new Date(),
  });
  const stored: string[] = [];
  const put: typeof content.put = async (raw, algorithm) => {
    const digest = await content.put(raw, algorithm);
    stored.push(digest);
    return digest;
  };
  const files = await createUploadFiles(place);
  const sharing = createHostedRepositories({ ...store, content: { ...store.content, put } }, files);
  await putManifest(sharing, 'local/app', small);
  expect(stored).toEqual([digestOf(small)]);
});
