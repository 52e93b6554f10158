// Pulls through rules where something is odd: what is left of a source that is gone, indexes of what is no image, and pushes beside refusals.
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { PLATFORMS, startApp, type TestApp } from '../support/app.ts';
import { type Content, type GeneratedImage, generateImage } from '../support/images.ts';
import { checkImage } from '../support/oracle.ts';

const NAME = 'lab/library/app';
const LAYER_TYPE = 'application/vnd.oci.image.layer.v1.tar+gzip';
const RULE = { name: 'audit', match: { image: '**' }, env: { RULED: 'yes' } };

let app: TestApp;

beforeEach(async () => {
  app = await startApp();
});

afterEach(() => app.close());

async function answerOf(path: string, method = 'GET'): Promise<readonly [status: number, digest: string | null]> {
  const response = await app.request(path, { method });
  await response.bytes();
  return [response.status, response.headers.get('docker-content-digest')];
}

const manifestsOf = ({ content }: GeneratedImage) =>
  [...content].filter(([, { mediaType }]) => /manifest|index/.test(mediaType));

test('what a rule has left as it was is there when the rest of its source is gone', async () => {
  const image = app.putImage();
  await app.configure({ rules: [{ ...RULE, match: { image: '**', platform: 'linux/amd64' } }] });
  const { manifests } = JSON.parse(Buffer.from(await app.read(NAME, await app.head(NAME, '1'))).toString());
  const [{ digest: made }, { digest: left }] = manifests;
  expect([image.content.has(made), image.content.has(left)]).toEqual([false, true]);
  app.registry.intercept(({ url }, response) => {
    if (!url?.includes(image.root.digest)) return false;
    response.writeHead(404).end();
    return true;
  });
  await rm(join(app.directory, 'data/content'), { recursive: true });
  await app.restart();
  expect(await answerOf(`/v2/${NAME}/manifests/${left}`)).toEqual([200, left]);
  expect(await answerOf(`/v2/${NAME}/referrers/${left}`)).toEqual([200, null]);
  expect(await answerOf(`/v2/${NAME}/manifests/${made}`)).toEqual([404, null]);
});

test.each(['untouched', 'refused'])(
  'the cache of a build, an index of layers, is served as it is: pinned %s',
  async pinned => {
    const layer = { mediaType: LAYER_TYPE, raw: Buffer.from('a layer') };
    const config = { mediaType: 'application/vnd.buildkit.cacheconfig.v0', raw: Buffer.from('{"layers":[]}') };
    const large = { mediaType: layer.mediaType, digest: digestOf(layer.raw), size: 1024 ** 3 };
    const more = Array.from({ length: 1000 }, (_, i) => ({ ...large, digest: digestOf(Buffer.from(`${i}`)) }));
    const manifests = [
      large,
      ...more,
      { mediaType: config.mediaType, digest: digestOf(config.raw), size: config.raw.byteLength },
    ];
    const raw = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests }));
    const index: Content = { mediaType: mediaTypes.ociIndex, raw };
    app.registry.put('library/app', [layer, config, { ...index, tags: ['cache'] }]);
    await app.configure({ rules: [{ ...RULE, pinned }] });
    expect(await answerOf(`/v2/${NAME}/manifests/cache`)).toEqual([200, digestOf(raw)]);
    expect(await answerOf(`/v2/${NAME}/manifests/${digestOf(raw)}`)).toEqual([200, digestOf(raw)]);
    // No layer was asked for as a manifest, however many there are.
    const asked = new Set(app.registry.requests.map(({ url }) => url?.replace(/.*\/manifests\//, '')));
    expect([...asked]).toEqual(['cache', digestOf(raw)]);
  },
);

test('an image that is called a layer in its index is changed, too', async () => {
  const image = app.putImage({ platforms: ['linux/amd64'], index: false });
  const { digest, size } = image.root;
  const manifests = [{ mediaType: LAYER_TYPE, digest, size }];
  const raw = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests }));
  app.registry.put('library/app', [{ mediaType: mediaTypes.ociIndex, raw, tags: ['1'] }]);
  await app.configure({ rules: [RULE] });
  const [status, root] = await answerOf(`/v2/${NAME}/manifests/1`);
  expect([status, root === digestOf(raw)]).toEqual([200, false]);
});

test('an image can be pushed again where its digests are refused, though nobody gets it by them', async () => {
  const image = app.putImage();
  await app.configure({ rules: [{ ...RULE, pinned: 'refused' }] });
  for (const [digest, { mediaType, raw }] of image.content) {
    const body = ReadableStream.from([raw]);
    const isManifest = /manifest|index/.test(mediaType);
    const path = isManifest ? `manifests/${digest}` : `blobs/uploads/?digest=${digest}`;
    const headers = isManifest ? { 'Content-Type': mediaType } : { 'Content-Length': `${raw.byteLength}` };
    const answer = await app.request(`/v2/local/app/${path}`, { method: isManifest ? 'PUT' : 'POST', headers, body });
    expect(answer.status).toBe(201);
  }
  for (const [digest] of manifestsOf(image)) {
    expect(await answerOf(`/v2/local/app/manifests/${digest}`, 'HEAD')).toEqual([200, digest]);
    expect(await answerOf(`/v2/local/app/manifests/${digest}`)).toEqual([403, null]);
    expect(await answerOf(`/v2/${NAME}/manifests/${digest}`, 'HEAD')).toEqual([403, null]);
  }
});

test('what an image is made of stays in the cache for as long as the image is pulled', async () => {
  await app.configure({ rules: [RULE], cache: { maxSize: '48KiB' } });
  app.putImage();
  const pull = async () => checkImage(await app.head(NAME, '1'), descriptor => app.read(NAME, descriptor));
  for (let seed = 2; seed < 22; seed += 1) {
    const { content, root } = generateImage({ seed, platforms: PLATFORMS, layers: 2, family: 'oci' });
    const contents = [...content].map(([digest, each]) => (digest === root.digest ? { ...each, tags: ['1'] } : each));
    app.registry.put(`library/other-${seed}`, contents);
    const name = `lab/library/other-${seed}`;
    await checkImage(await app.head(name, '1'), descriptor => app.read(name, descriptor));
    await pull();
  }
  // What is to go yet would go at the start by uses that are known by the minute.
  const readStat = async () => JSON.parse(await (await app.request('/v1/cache/stat')).text());
  await expect.poll(async () => (await readStat()).bytes).toBeLessThan(48 * 1024);
  app.registry.intercept((_, response) => {
    response.writeHead(503).end();
    return true;
  });
  await app.restart();
  expect(await pull()).toHaveLength(PLATFORMS.length);
  expect((await app.request('/v2/lab/library/other-2/manifests/1')).status).toBe(502);
});
