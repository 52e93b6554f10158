// Copies: every digest of a mirror is the source's, some platforms are an index of exactly those, and a frozen image has its changes.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { augmentationSchema } from '../../src/augment/augmentation.ts';
import { createCopy, createFinish } from '../../src/copy/copy.ts';
import type { ContentDescriptor } from '../../src/oci/descriptor.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { formatPlatform } from '../../src/oci/platform.ts';
import { createLayer } from '../augment/fixture.ts';
import { makeImage, partsOf } from '../conformance/documents.ts';
import { PLATFORMS } from '../support/app.ts';
import type { ImageOptions } from '../support/images.ts';
import { checkImage } from '../support/oracle.ts';
import { type Copying, copySpecOf, createCopying, createTelling } from './copying.ts';

let fixture: Copying;

beforeEach(async () => {
  fixture = await createCopying();
});

afterEach(() => fixture.close());

/** All images at the target, checked by the oracle. */
async function check(repository: string, tag = '1') {
  const root = await fixture.rootOf(repository, tag);
  const read = fixture.readFrom(repository);
  const json = async (descriptor: ContentDescriptor) => JSON.parse(new TextDecoder().decode(await read(descriptor)));
  const images = await checkImage(root, read);
  const configs = await Promise.all(images.map(({ config }) => json(config)));
  return { root, images, configs, index: await json(root) };
}

const TARGETS = ['local/mirror', 'away/local/mirror'] as const;

const FAMILIES: readonly [string, Partial<ImageOptions>][] = [
  ['an OCI index', {}],
  ['a Docker list', { family: 'docker' }],
  ['an index of both families', { family: 'mixed' }],
  ['a single image', { index: false, platforms: ['linux/arm64'] }],
  ['nested indexes', { nested: true }],
  ['attestations', { attestations: true }],
  ['an artifact among the entries', { artifact: true }],
  ['entries that say neither platform nor type', { noPlatform: true, noEntryType: true }],
  ['documents that do not name their type', { noMediaType: true }],
];

describe.each(TARGETS)('to %s, a mirror', target => {
  test.each(FAMILIES)('of %s has every digest of its source', async (_, options) => {
    const image = fixture.putImage(options);
    const { digest } = await fixture.copy(image, `${target}:1`);
    expect(digest).toBe(image.root.digest);
    expect((await check(target)).root).toEqual({ ...image.root });
    for (const [each, { raw, mediaType }] of image.content) {
      const descriptor = { mediaType, digest: digestOf(raw), size: raw.byteLength };
      expect(digestOf(await fixture.readFrom(target)(descriptor))).toBe(each);
    }
  });

  test('leaves out a layer that has an address of its own', async () => {
    const image = fixture.putImage({ foreign: true });
    await fixture.copy(image, `${target}:1`);
    expect((await fixture.rootOf(target, '1')).digest).toBe(image.root.digest);
    const asked = fixture.registry.requests.filter(({ url }) => url.includes('/blobs/'));
    // A config and one layer of each platform.
    expect(new Set(asked.map(({ url }) => url)).size).toBe(6);
  });

  test('brings each blob once, and none that is there', async () => {
    const image = fixture.putImage();
    await fixture.copy(image, `${target}:1`);
    const brought = fixture.registry.requests.filter(({ method, url }) => method === 'GET' && url.includes('/blobs/'));
    expect(new Set(brought.map(({ url }) => url)).size).toBe(brought.length);
    const { events } = await fixture.copy(image, `${target}:2`);
    expect((await fixture.rootOf(target, '2')).digest).toBe(image.root.digest);
    const blobs = events.filter(({ step, state }) => !step?.startsWith('manifest') && state !== 'started');
    expect(new Set(blobs.map(({ state }) => state))).toEqual(new Set(['cached']));
    const again = fixture.registry.requests.filter(({ method, url }) => method === 'GET' && url.includes('/blobs/'));
    expect(again).toHaveLength(brought.length);
  });

  test('brings signatures and other referrers, and what is about these, and moves the tag only after', async () => {
    const image = fixture.putImage();
    const mediaType = mediaTypes.ociManifest;
    const about = (name: string, subject: object) => {
      const { raw, digest, size } = makeImage(name, { fields: { subject } });
      const parts = partsOf(name);
      // The signature is found in both ways.
      const tags = name.endsWith('.sig') ? [name] : [];
      fixture.registry.put('library/app', [{ mediaType, raw, tags }, parts.config, ...parts.layers]);
      return { mediaType, digest, size };
    };
    const tag = `${image.root.digest.replace(':', '-')}.sig`;
    const signature = about(tag, image.root);
    const sbom = about('an sbom', image.root);
    const signatureOfSbom = about('a signature of it', sbom);
    const { events } = await fixture.copy(image, `${target}:1`);
    expect((await fixture.rootOf(target, tag)).digest).toBe(signature.digest);
    for (const each of [sbom, signatureOfSbom]) {
      expect(digestOf(await fixture.readFrom(target)(each))).toBe(each.digest);
    }
    expect(events.at(-1)?.step).toBe(`manifest ${image.root.digest.slice(0, 19)}`);
  });

  test('of some platforms is an index of exactly those, whose images are the same', async () => {
    const image = fixture.putImage({ attestations: true, artifact: true });
    const platforms = ['linux/arm64', 'linux/arm/v7'];
    const { digest } = await fixture.copy(image, `${target}:1`, { platforms });
    const { root, index } = await check(target);
    expect(root.digest).toBe(digest);
    const entries: { digest: string; platform: { os: string; architecture: string; variant?: string } }[] =
      index.manifests;
    expect(entries.map(({ platform }) => formatPlatform(platform))).toEqual(platforms);
    for (const entry of entries) expect(image.content.has(entry.digest)).toBe(true);
  });

  test('of one platform is its image', async () => {
    const image = fixture.putImage();
    const { digest } = await fixture.copy(image, `${target}:1`, { platforms: ['linux/arm64'] });
    const { configs, images } = await check(target);
    expect([configs[0].architecture, images[0]?.digest, image.content.has(digest)]).toEqual(['arm64', digest, true]);
  });

  test('that is frozen has its changes and the layers on top, at every platform', async () => {
    const image = fixture.putImage();
    const { layer, raw } = createLayer('on top', 'gzip');
    fixture.stored.set(layer.digest, raw);
    const augmentation = augmentationSchema.parse({ layers: [layer], env: { FROZEN: 'yes' } });
    const layerSources = [{ kind: 'stored' as const, digest: layer.digest, size: layer.size }];
    const { digest } = await fixture.copy(image, `${target}:1`, { changes: { augmentation, layerSources } });
    const { root, images, configs } = await check(target);
    expect([root.digest, images.length]).toEqual([digest, PLATFORMS.length]);
    for (const config of configs) expect(config.config.Env).toContain('FROZEN=yes');
    for (const { layers } of images) expect(layers.at(-1)?.digest).toBe(layer.digest);
  });

  test('tells of each blob when it begins and ends, with its bytes and platform', async () => {
    const image = fixture.putImage({ layers: 1 });
    const { events } = await fixture.copy(image, `${target}:1`);
    const layers = events.filter(({ step }) => step?.startsWith('layer'));
    expect(layers.map(({ platform }) => platform).filter((_, i) => layers[i]?.state === 'started')).toEqual(
      expect.arrayContaining(PLATFORMS),
    );
    for (const { state, progress } of layers) {
      if (state === 'done') expect(progress?.current).toBe(progress?.total);
    }
    expect(events.at(-1)).toMatchObject({ step: `manifest ${image.root.digest.slice(0, 19)}`, state: 'done' });
  });
});

test.each(['local/to', 'away/local/to'])('mounts what another repository of the registry of %s has', async target => {
  const image = fixture.putImage();
  const from = target.replace('/to', '/from');
  await fixture.copy(image, `${from}:1`);
  const before = fixture.registry.requests.length;
  const [registry = '', ...rest] = from.split('/');
  const source = { registry, repository: rest.join('/'), digest: image.root.digest };
  const { events, options } = createTelling(`${target}:1`);
  await createCopy(fixture.deps)({ ...copySpecOf(image, target), source }, options);
  expect((await check(target)).root.digest).toBe(image.root.digest);
  expect(events.some(({ progress, state }) => progress && state === undefined)).toBe(false);
  expect(new Set(events.filter(({ step }) => !step?.startsWith('manifest')).map(({ state }) => state))).toEqual(
    new Set(['started', 'cached']),
  );
  expect(fixture.registry.requests).toHaveLength(before);
});

test('a built image is finished with its changes, under its tag', async () => {
  const image = fixture.putImage();
  await fixture.copy(image, 'local/built:raw');
  const augmentation = augmentationSchema.parse({ labels: { finished: 'yes' } });
  const { options } = createTelling('local/final:1');
  const digest = await createFinish(fixture.deps)({
    ...options,
    source: { repository: 'local/built', digest: image.root.digest },
    changes: { augmentation, layerSources: [] },
  });
  const { root, configs } = await check('local/final');
  expect(root.digest).toBe(digest);
  for (const config of configs) expect(config.config.Labels).toEqual({ finished: 'yes' });
});
