// Base images: a name in a Containerfile means what it means in every builder, and beyond that what it means to us.
import { buffer } from 'node:stream/consumers';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createBaseImages } from '../../../src/pull/images.ts';
import { makeIndex } from '../../conformance/documents.ts';
import { type Copying, createCopying } from '../../copy/copying.ts';
import { checkImage } from '../../support/oracle.ts';

let fixture: Copying;

beforeAll(async () => {
  fixture = await createCopying();
});

afterAll(() => fixture.close());

test.each([
  ['alpine', '/hub/v2/library/alpine/manifests/latest'],
  ['alpine:3.20', '/hub/v2/library/alpine/manifests/3.20'],
  ['team/app', '/hub/v2/team/app/manifests/latest'],
  ['docker.io/library/alpine:3', '/hub/v2/library/alpine/manifests/3'],
  ['index.docker.io/alpine', '/hub/v2/library/alpine/manifests/latest'],
  ['local', '/hub/v2/library/local/manifests/latest'],
  ['quay.io/org/app:1', '/quay/v2/org/app/manifests/1'],
  ['lab/library/none:1', '/v2/library/none/manifests/1'],
])('%s is asked for at %s, whatever the default upstream is', async (reference, path) => {
  fixture.registry.requests.length = 0;
  await expect(createBaseImages(fixture.deps.origins).resolve(reference)).rejects.toMatchObject({ status: 404 });
  expect([...new Set(fixture.registry.requests.map(({ url }) => url))]).toEqual([path]);
});

test('a name below a hosted prefix is what was pushed to us', async () => {
  const index = makeIndex([]);
  await fixture.deps.openDestination('local/tools/a').putManifest({ ...index, tags: ['2'] });
  const bases = createBaseImages(fixture.deps.origins);
  expect(await bases.resolve('local/tools/a:2')).toBe(index.digest);
  expect((await bases.open('local/tools/a:2', index.digest)).root.raw).toEqual(index.raw);
});

test('a name with a digest is that digest, and asks nobody', async () => {
  const { digest } = makeIndex([]);
  expect(await createBaseImages(fixture.deps.origins).resolve(`lab/library/app:1@${digest}`)).toBe(digest);
});

test('a registry that is closed to pulls is closed to builds', async () => {
  const work = createBaseImages(fixture.deps.origins).resolve('ghcr.io/org/app');
  await expect(work).rejects.toMatchObject({ code: 'DENIED' });
});

test('an image is read whole, and every byte of it verified', async () => {
  const { root } = fixture.putImage({ nested: true });
  const bases = createBaseImages(fixture.deps.origins);
  const digest = await bases.resolve('lab/library/app:1');
  const image = await bases.open('lab/library/app:1', digest);
  expect(image.root.digest).toBe(root.digest);
  const images = await checkImage(root, async descriptor => {
    const isDocument = /index|manifest/.test(descriptor.mediaType);
    return isDocument ? (await image.readManifest(descriptor)).raw : buffer(await image.openBlob(descriptor.digest));
  });
  expect(images).toHaveLength(3);
  const [first] = images;
  if (!first) throw new Error('no image');
  expect((await image.readConfig(first.config)).byteLength).toBe(first.config.size);
});

test.each(['Alpine', 'a b', 'lab/app:', 'app@sha256:1'])('%s is no reference', async reference => {
  await expect(createBaseImages(fixture.deps.origins).resolve(reference)).rejects.toMatchObject({
    name: 'RegistryError',
  });
});
