// What a manifest refers to: what must be there, and what may be missing.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { HostedRepositories } from '../../../src/hosted/repositories.ts';
import { digestOf } from '../../../src/oci/digest.ts';
import { mediaTypes } from '../../../src/oci/media-type.ts';
import {
  bytes,
  config,
  createPlace,
  descriptorOf,
  json,
  LAYER,
  layer,
  type Place,
  pushBlob,
  pushParts,
  putManifest,
  smallManifest,
} from '../fixture.ts';

let place: Place;
let hosted: HostedRepositories;

beforeEach(async () => {
  place = await createPlace();
  hosted = await place.open();
});

afterEach(() => place.remove());

describe('references', () => {
  const absentConfig = bytes('{"config":"not pushed"}');
  const absentLayer = bytes('not pushed');
  const childDigest = digestOf(bytes('no such manifest'));
  const index = json({
    schemaVersion: 2,
    manifests: [{ mediaType: mediaTypes.ociManifest, digest: childDigest, size: 16 }],
  });
  const image = smallManifest(absentConfig, absentLayer);
  const asIndex = { contentType: mediaTypes.ociIndex };

  test('that are missing are all named', async () => {
    await expect(putManifest(hosted, 'local/app', image)).rejects.toMatchObject({
      code: 'MANIFEST_BLOB_UNKNOWN',
      status: 404,
      detail: [{ digest: digestOf(absentConfig) }, { digest: digestOf(absentLayer) }],
      message: expect.stringMatching(new RegExp(`${digestOf(absentConfig)}, ${digestOf(absentLayer)}$`)),
    });
  });

  test('that are very many are named in part', async () => {
    const layers = Array.from({ length: 60 }, (_, i) => descriptorOf(bytes(`layer ${i}`), LAYER));
    await expect(putManifest(hosted, 'local/app', smallManifest(config, layer, { layers }))).rejects.toMatchObject({
      message: expect.stringMatching(/and 11 more$/),
    });
  });

  test('must be in the same repository', async () => {
    for (const content of [absentConfig, absentLayer]) await pushBlob(hosted, 'local/other', content);
    await expect(putManifest(hosted, 'local/app', image)).rejects.toMatchObject({ code: 'MANIFEST_BLOB_UNKNOWN' });
    await putManifest(hosted, 'local/other', image);
  });

  test.each([
    ['refuse', false, false],
    ['indexes', true, false],
    ['allow', true, true],
  ] as const)('may be missing as the owner wants it: %s', async (sparse, indexMay, imageMay) => {
    hosted = await place.open({ sparse });
    const missing = { code: 'MANIFEST_BLOB_UNKNOWN' };
    const puts = [putManifest(hosted, 'local/app', index, asIndex), putManifest(hosted, 'local/app', image)];
    const results = await Promise.allSettled(puts);
    expect(results.map(({ status }) => status === 'fulfilled')).toEqual([indexMay, imageMay]);
    for (const result of results) if (result.status === 'rejected') expect(result.reason).toMatchObject(missing);
  });

  test('that may be missing are named in the answer, each once, unless they are there or elsewhere', async () => {
    hosted = await place.open({ sparse: 'allow' });
    await pushParts(hosted);
    const foreign = { ...descriptorOf(bytes('far away'), LAYER), urls: ['https://layers.example/1'] };
    const layers = [layer, absentLayer, absentLayer].map(content => descriptorOf(content, LAYER));
    const put = await putManifest(hosted, 'local/app', smallManifest(config, layer, { layers: [...layers, foreign] }));
    expect(put.missing).toEqual([digestOf(absentLayer)]);
    expect((await putManifest(hosted, 'local/app', index, asIndex)).missing).toEqual([childDigest]);
    expect((await putManifest(hosted, 'local/app', smallManifest(config, layer))).missing).toEqual([]);
  });

  test('of an index are given a wrong size although they are there', async () => {
    hosted = await place.open({ sparse: 'allow' });
    const { digest, size } = await putManifest(hosted, 'local/app', image);
    const lie = json({ schemaVersion: 2, manifests: [{ mediaType: mediaTypes.ociManifest, digest, size: size + 1 }] });
    await expect(putManifest(hosted, 'local/app', lie, asIndex)).rejects.toMatchObject({ code: 'MANIFEST_INVALID' });
  });

  test('of an index may be blobs, as those of a build cache are', async () => {
    hosted = await place.open({ sparse: 'refuse' });
    await pushParts(hosted);
    const cache = json({ schemaVersion: 2, manifests: [descriptorOf(layer, LAYER)] });
    await putManifest(hosted, 'local/app', cache, asIndex);
    await expect(hosted.blobs.delete('local/app', digestOf(layer))).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });

  test('of a type that we do not know are kept from deletion, where we understand them', async () => {
    await pushParts(hosted);
    const raw = json({ blobs: ['?', descriptorOf(layer, 'a/b')], config: descriptorOf(config, 'a/c') });
    const { digest } = await putManifest(hosted, 'local/app', raw, { contentType: 'application/vnd.acme+json' });
    await expect(hosted.blobs.delete('local/app', digestOf(layer))).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    await expect(hosted.blobs.delete('local/app', digestOf(config))).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    await hosted.manifests.delete('local/app', digest);
    await hosted.blobs.delete('local/app', digestOf(layer));
  });
});
