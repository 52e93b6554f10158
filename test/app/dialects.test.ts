// Registries that speak a dialect: what can be pulled of them directly can be pulled through Veneer, byte for byte, and augmented.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { startApp, type TestApp } from '../support/app.ts';
import { dialects, TAGS, tagDialects, tokenDialects } from '../support/dialects.ts';
import { checkImage } from '../support/oracle.ts';

const NAME = 'lab/library/app';
const tagsSchema = z.object({ tags: z.array(z.string()) });

let app: TestApp;

beforeEach(async () => {
  app = await startApp();
});

afterEach(() => app.close());

test.each(Object.entries({ ...dialects, ...tokenDialects }))('%s', async (_, intercept) => {
  const { root, content } = app.putImage();
  app.registry.intercept(intercept);
  expect(await app.head(NAME, '1')).toEqual(root);
  const images = await checkImage(root, descriptor => app.read(NAME, descriptor));
  for (const [digest, { raw }] of content) {
    const kind = digest === root.digest || images.some(image => image.digest === digest) ? 'manifests' : 'blobs';
    const head = await app.request(`/v2/${NAME}/${kind}/${digest}`, { method: 'HEAD' });
    expect([head.status, Number(head.headers.get('content-length') ?? raw.byteLength)], digest).toEqual([
      200,
      raw.byteLength,
    ]);
  }
  const { name, targetDigest } = await app.submit();
  const augmented = await app.head(name, targetDigest);
  expect(await checkImage(augmented, descriptor => app.read(name, descriptor))).toHaveLength(images.length);
});

test.each(Object.entries(dialects).filter(([name]) => name.includes('blobs') || name.includes('HEAD')))(
  'a blob is found before it was ever read: %s',
  async (_, intercept) => {
    const { content } = app.putImage();
    app.registry.intercept(intercept);
    for (const [digest, { mediaType, raw }] of content) {
      if (!mediaType.includes('layer') && !mediaType.includes('config')) continue;
      const { status, headers } = await app.request(`/v2/${NAME}/blobs/${digest}`, { method: 'HEAD' });
      expect([status, headers.get('content-length')]).toEqual([200, `${raw.byteLength}`]);
    }
  },
);

test.each(Object.entries(tagDialects))('tags: %s', async (_, intercept) => {
  app.putImage();
  app.registry.intercept(intercept);
  for (const first of ['', '?n=3', '?n=100']) {
    const tags: string[] = [];
    let path: string | undefined = `/v2/${NAME}/tags/list${first}`;
    for (let pages = 0; path !== undefined; pages++) {
      const response = await app.request(path);
      tags.push(...tagsSchema.parse(await response.json()).tags);
      const link = response.headers.get('link');
      if (pages > 20) throw new Error('it never ends');
      expect(link ?? '<>').not.toContain(app.registry.host);
      path = link === null ? undefined : /^<(\/v2\/lab\/library\/app\/tags\/list\?[^>]*)>; rel="next"$/.exec(link)?.[1];
      expect(link === null || path !== undefined).toBe(true);
    }
    expect(tags.toSorted()).toEqual(TAGS);
  }
});

test('what a client accepts is asked for, and is nobody else’s to get', async () => {
  const type = 'application/vnd.cncf.oras.artifact.manifest.v1+json';
  const raw = Buffer.from(JSON.stringify({ mediaType: type, artifactType: 'x/y', blobs: [] }));
  const [digest = ''] = app.registry.put('library/app', [{ mediaType: type, raw, tags: ['art'] }]);
  app.registry.intercept((request, response) => {
    if (!request.url?.includes('/manifests/') || request.headers.accept?.includes(type)) return false;
    return Boolean(response.writeHead(404).end());
  });
  const images = `${mediaTypes.ociManifest}, ${mediaTypes.ociIndex}`;
  for (const reference of ['art', digest, 'art']) {
    const path = `/v2/${NAME}/manifests/${reference}`;
    if (reference === 'art') expect((await app.request(path, { headers: { Accept: images } })).status).toBe(404);
    const response = await app.request(path, { headers: { Accept: `${images}, ${type.toUpperCase()};q=0.5, */*` } });
    expect([response.status, await response.text()]).toEqual([200, raw.toString()]);
  }
  for (const { headers } of app.registry.requests) expect(headers.accept ?? '').not.toContain('*');
});

test('one null in an entry or a config spoils neither a pull nor an augmentation', async () => {
  const { root, content } = app.putImage({ noPlatform: true });
  const index = JSON.parse(Buffer.from(content.get(root.digest)?.raw ?? []).toString());
  index.manifests[0] = { ...index.manifests[0], platform: null, annotations: null, urls: null, artifactType: null };
  const raw = Buffer.from(JSON.stringify(index));
  app.registry.put('library/app', [{ mediaType: root.mediaType, raw, tags: ['1'] }]);
  expect(Buffer.from(await app.read(NAME, await app.head(NAME, '1')))).toEqual(raw);
  const { name, targetDigest } = await app.submit();
  const made = JSON.parse(Buffer.from(await app.read(name, await app.head(name, targetDigest))).toString());
  expect(made.manifests).toHaveLength(index.manifests.length);
  // What no change names keeps its bytes.
  expect(made.manifests[0]).toMatchObject({ platform: null, annotations: null, artifactType: null });
});

test('an index with an odd entry is passed on, and an augmentation names the entry and its field', async () => {
  const { root, content } = app.putImage();
  const index = JSON.parse(Buffer.from(content.get(root.digest)?.raw ?? []).toString());
  index.manifests[1].size = '12';
  const raw = Buffer.from(JSON.stringify(index));
  app.registry.put('library/app', [{ mediaType: root.mediaType, raw, tags: ['1'] }]);
  expect(Buffer.from(await app.read(NAME, await app.head(NAME, '1')))).toEqual(raw);
  const body = { containerImage: app.image, containerConfig: { env: ['A=1'] } };
  const response = await app.request('/v1alpha2/container', { method: 'POST', body });
  expect([response.status, await response.json()]).toMatchObject([
    400,
    { message: expect.stringContaining('manifests[1].size') },
  ]);
});
