// Records of a shape that this release does not know: each spoils nothing but itself, and a push over it or a deletion puts it right.
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { startApp, type TestApp } from '../support/app.ts';

let app: TestApp;

beforeEach(async () => {
  app = await startApp();
});

afterEach(() => app.close());

const send = async (method: string, path: string, body?: string, type = 'application/octet-stream') =>
  (await app.request(`/v2/local/app/${path}`, { method, body, headers: { 'Content-Type': type } })).status;

interface Image {
  readonly digest: Digest;
  readonly blobs: readonly Digest[];
}

/** Of one layer. */
async function push(tag: string, subject?: Digest): Promise<Image> {
  const descriptor = (text: string, mediaType: string) => ({
    ...{ mediaType, digest: digestOf(Buffer.from(text)) },
    size: text.length,
  });
  const blobs = [JSON.stringify({ tag }), `layer of ${tag}`];
  for (const blob of blobs) {
    expect(await send('POST', `blobs/uploads/?digest=${digestOf(Buffer.from(blob))}`, blob)).toBe(201);
  }
  const [config = '', layer = ''] = blobs;
  const manifest = JSON.stringify({
    ...{ schemaVersion: 2, mediaType: mediaTypes.ociManifest },
    config: descriptor(config, mediaTypes.ociConfig),
    layers: [descriptor(layer, 'application/vnd.oci.image.layer.v1.tar')],
    ...(subject && { subject: { mediaType: mediaTypes.ociManifest, digest: subject, size: 7 } }),
  });
  expect(await send('PUT', `manifests/${tag}`, manifest, mediaTypes.ociManifest)).toBe(201);
  return { digest: digestOf(Buffer.from(manifest)), blobs: blobs.map(blob => digestOf(Buffer.from(blob))) };
}

/** As a later release may write it. */
function change(collection: string, key = '%'): number {
  const database = new DatabaseSync(join(app.directory, 'data/records.db'), { timeout: 5_000 });
  const set = database.prepare('UPDATE records SET value = ? WHERE collection = ? AND key LIKE ?');
  const { changes } = set.run(Buffer.from('[7]'), collection, key);
  database.close();
  return Number(changes);
}

const statusOf = (path: string) => send('GET', path);
const listTags = async () => Object(await (await app.request('/v2/local/app/tags/list')).json()).tags;

describe('a tag', () => {
  beforeEach(async () => {
    await push('1');
    await push('2');
    expect(change('hosted.tag', 'local/app:1')).toBe(1);
  });

  test('cannot be pulled, and the log names it; all others can', async () => {
    expect([await statusOf('manifests/1'), await statusOf('manifests/2')]).toEqual([500, 200]);
    expect(app.log.join('')).toContain('the stored record hosted.tag/local/app:1 cannot be read');
    expect(await listTags()).toEqual(['1', '2']);
  });

  test('is pushed over', async () => {
    await push('1');
    expect([await statusOf('manifests/1'), await statusOf('manifests/2')]).toEqual([200, 200]);
  });

  test('is deleted', async () => {
    expect(await send('DELETE', 'manifests/1')).toBe(202);
    expect([await statusOf('manifests/1'), await statusOf('manifests/2')]).toEqual([404, 200]);
    expect(await listTags()).toEqual(['2']);
  });
});

describe('a manifest', () => {
  let image: Image;

  beforeEach(async () => {
    image = await push('1');
    await push('2');
    expect(change('hosted.manifest', `local/app@${image.digest}`)).toBe(1);
  });

  test('is pushed over', async () => {
    expect([await statusOf('manifests/1'), await statusOf('manifests/2')]).toEqual([500, 200]);
    await push('1');
    expect(await statusOf('manifests/1')).toBe(200);
  });

  test('is deleted, and with it what it says about its blobs', async () => {
    expect(await send('DELETE', `manifests/${image.digest}`)).toBe(202);
    expect(await statusOf('manifests/1')).toBe(404);
    for (const blob of image.blobs) expect(await send('DELETE', `blobs/${blob}`)).toBe(202);
    expect(await listTags()).toEqual(['2']);
  });
});

test('a blob counts as unknown, and is pushed again or deleted', async () => {
  const { digest, blobs } = await push('1');
  change('hosted.blob');
  expect(await statusOf(`blobs/${blobs[1]}`)).toBe(404);
  await push('1');
  expect(await statusOf(`blobs/${blobs[1]}`)).toBe(200);
  await send('DELETE', `manifests/${digest}`);
  change('hosted.blob');
  for (const blob of blobs) expect(await send('DELETE', `blobs/${blob}`)).toBe(202);
});

test.each(['tag', 'manifest', 'blob', 'holder', 'tagged', 'reference', 'referrer', 'usage'])(
  'whatever all records of hosted.%s are, the same images are pushed and pulled again',
  async name => {
    const { digest } = await push('1');
    await push('2', digest);
    expect(change(`hosted.${name}`)).toBeGreaterThan(0);
    await push('1');
    await push('2', digest);
    expect([await statusOf('manifests/1'), await statusOf('manifests/2')]).toEqual([200, 200]);
    expect(await statusOf(`referrers/${digest}`)).toBe(200);
  },
);

test.each(['tag', 'link', 'linked', 'token-layer', 'layer-index'])(
  'whatever all records of %s are, an image of an upstream is pulled, and augmented',
  async name => {
    app.putImage();
    const pull = async () => {
      const layers = [{ location: `data:${LAYER}` }];
      const submitted = await app.submit({ containerConfig: { env: ['A=1'], layers } });
      expect((await app.request(`/v2/${submitted.name}/manifests/1`)).status).toBe(200);
      expect((await app.request('/v2/lab/library/app/manifests/1')).status).toBe(200);
    };
    await pull();
    // That of a layer may be written a moment after the answers.
    await expect.poll(() => change(name)).toBeGreaterThan(0);
    await app.restart();
    await pull();
  },
);

/** A gzipped tar of one file. */
const LAYER =
  'H4sIAAAAAAACA+3RKw6AMBAE0B6FG1AB9DwIEgQJhM/9KSiCL4b3zGzGjNh52etxmKY5lBOzrmnuzN6ZtY/76lObYqhi+MCx7f2aJ8M/lf49AAAAAAAAAAAAZZxpSWJ+ACgAAA==';
