// Augmented pulls: every platform or a loud failure, the same bytes anywhere and at any time, and nothing plain.
import { cp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { digestOf, parseDigest } from '../../src/oci/digest.ts';
import { parseImageConfig } from '../../src/oci/image-config.ts';
import { parseManifest } from '../../src/oci/manifest.ts';
import { isIndexType, isManifestType, mediaTypes } from '../../src/oci/media-type.ts';
import { dataUrl, makeLayer, PLATFORMS, startApp, type TestApp } from '../support/app.ts';
import { checkImage } from '../support/oracle.ts';
import { editRecords, readRecords } from './records.ts';

const layer = await makeLayer('opt/hello', 'hi');
const containerConfig = { env: ['A=b=c'], workingDir: '/opt', layers: [{ location: dataUrl(layer) }] };

let app: TestApp;

beforeEach(async () => {
  app = await startApp();
});

afterEach(() => app.close());

test.each([
  { attestations: true },
  { family: 'docker' },
  { family: 'mixed', nested: true },
  { noPlatform: true, noMediaType: true },
  { index: false },
] as const)('have every platform rewritten, with every digest right (%o)', async options => {
  app.putImage(options);
  const { name, targetDigest } = await app.submit({ containerConfig });
  const root = await app.head(name, '1');
  expect(root.digest).toBe(targetDigest);
  const images = await checkImage(root, descriptor => app.read(name, descriptor));
  expect(images).toHaveLength('index' in options ? 1 : PLATFORMS.length);
  for (const image of images) {
    const { config } = parseImageConfig(await app.read(name, image.config));
    expect(config).toMatchObject({ Env: expect.arrayContaining(['A=b=c']), WorkingDir: '/opt' });
    expect(await app.read(name, image.layers.at(-1) ?? image.config)).toEqual(new Uint8Array(layer));
  }
});

test('have one digest, whether the source is named by tag, by another tag, by an alias or by its digest', async () => {
  const { root, content } = app.putImage();
  const source = content.get(root.digest);
  if (!source) throw new Error('the image has no root');
  app.registry.put('library/app', [{ ...source, tags: ['2'] }]);
  const references = ['app:1', 'app:2', `app@${root.digest}`];
  const names = [app.registry.host, 'lab'].flatMap(host => references.map(name => `${host}/library/${name}`));
  const submitted = await Promise.all(names.map(containerImage => app.submit({ containerImage, containerConfig })));
  expect(new Set(submitted.map(({ targetDigest }) => targetDigest)).size).toBe(1);
  for (const { name, targetDigest } of submitted) {
    expect((await app.head(name, targetDigest)).digest).toBe(targetDigest);
  }
});

test('are one image for one platform, and an index of exactly those for several', async () => {
  app.putImage();
  const one = await app.submit({ containerConfig, containerPlatform: 'aarch64' });
  expect(isManifestType((await app.head(one.name, '1')).mediaType)).toBe(true);
  const two = await app.submit({ containerConfig, containerPlatform: 'linux/arm/v7,amd64' });
  const root = await app.head(two.name, '1');
  expect(isIndexType(root.mediaType)).toBe(true);
  expect(await checkImage(root, descriptor => app.read(two.name, descriptor))).toHaveLength(2);
});

test('give a client that accepts no index the augmented image for linux/amd64', async () => {
  app.putImage({ nested: true, platforms: PLATFORMS.toReversed() });
  const { name } = await app.submit({ containerConfig });
  const headers = { Accept: mediaTypes.ociManifest };
  const response = await app.request(`/v2/${name}/manifests/1`, { headers });
  const manifest = parseManifest(await response.bytes(), response.headers.get('content-type') ?? '');
  if (manifest.kind !== 'image') throw new Error(manifest.kind);
  const config = parseImageConfig(await app.read(name, manifest.config));
  expect([config.architecture, config.config?.WorkingDir]).toEqual(['amd64', '/opt']);
});

describe('have the same digests', () => {
  test('after a restart without a cache, and are pulled by them', async () => {
    app.putImage();
    const { name, targetDigest } = await app.submit({ containerConfig });
    const { mediaType, size } = await app.head(name, '1');
    await rm(join(app.directory, 'data/content'), { recursive: true });
    await app.restart();
    const root = { mediaType, size, digest: parseDigest(targetDigest) };
    expect(await checkImage(root, descriptor => app.read(name, descriptor))).toHaveLength(PLATFORMS.length);
  });

  test('from another instance that has the records and the layers of requests alone', async () => {
    app.putImage();
    const { name, targetDigest } = await app.submit({ containerConfig });
    await app.restart('empty');
    await cp(join(app.directory, 'data/records.db'), join(app.directory, 'other/records.db'));
    await cp(join(app.directory, 'data/tokens'), join(app.directory, 'other/tokens'), { recursive: true });
    await app.restart('other');
    const root = await app.head(name, '1');
    expect(root.digest).toBe(targetDigest);
    expect(await checkImage(root, descriptor => app.read(name, descriptor))).toHaveLength(PLATFORMS.length);
  });

  test('from another instance that is asked again', async () => {
    app.putImage();
    const { targetDigest } = await app.submit({ containerConfig });
    await app.restart('other');
    expect((await app.submit({ containerConfig })).targetDigest).toBe(targetDigest);
  });

  test('when the tag of the source moves on, as long as the token lives', async () => {
    app.putImage();
    const { name, targetDigest } = await app.submit({ containerConfig });
    app.putImage({ seed: 2 });
    await app.restart();
    expect((await app.head(name, '1')).digest).toBe(targetDigest);
    expect((await app.submit({ containerConfig })).targetDigest).toBe(targetDigest);
  });

  test('or none: what a version that makes other bytes would serve is refused', async () => {
    app.putImage();
    const { name, targetDigest } = await app.submit({ containerConfig });
    editRecords(app, 'token', value => Buffer.from(value.toString().replaceAll(targetDigest, digestOf(layer))));
    const response = await app.request(`/v2/${name}/manifests/1`);
    expect([response.status, await response.text()]).toEqual([
      404,
      expect.stringContaining('submit the request again'),
    ]);
  });
});

describe('never serve plain', () => {
  test('the source, or any of its images, by a digest', async () => {
    const { root, content } = app.putImage({ attestations: true });
    const { name } = await app.submit({ containerConfig });
    for (const [digest, { mediaType, raw }] of content) {
      if (!isManifestType(mediaType) || Buffer.from(raw).includes('in-toto')) continue;
      const response = await app.request(`/v2/${name}/manifests/${digest}`);
      expect([response.status, await response.text()]).toEqual([404, expect.stringContaining('is the source image')]);
    }
    expect((await app.request(`/v2/${name}/manifests/${root.digest}`)).status).toBe(404);
  });

  test('another image of the repository, or a platform that was not asked for', async () => {
    const { content } = app.putImage();
    const other = app.putImage({ seed: 2, index: false });
    app.putImage();
    const { name } = await app.submit({ containerConfig, containerPlatform: 'arm64' });
    const manifests = [...content].filter(([, { mediaType }]) => isManifestType(mediaType)).map(([digest]) => digest);
    for (const digest of [other.root.digest, ...manifests]) {
      expect((await app.request(`/v2/${name}/manifests/${digest}`)).status).toBe(404);
    }
  });

  test('but the attestations that are kept, artifacts, and images that the augmentation leaves alone', async () => {
    await app.close();
    app = await startApp({ config: { attestations: 'keep' } });
    const { content } = app.putImage({ attestations: true, artifact: true });
    const layers = [{ location: dataUrl(layer), platforms: ['linux/arm64'] }];
    const { name } = await app.submit({ containerConfig: { layers } });
    const images = await checkImage(await app.head(name, '1'), descriptor => app.read(name, descriptor));
    expect(images.map(({ digest }) => content.has(digest))).toEqual([true, false, true]);
    for (const [digest, { mediaType, raw }] of content) {
      if (!Buffer.from(raw).includes('artifactType')) continue;
      expect(await app.read(name, { digest: parseDigest(digest), mediaType, size: 0 })).toEqual(new Uint8Array(raw));
    }
  });

  test('and yet an image that is in the index for two platforms, where it stays for one', async () => {
    const { root, content } = app.putImage({ platforms: ['linux/amd64'] });
    const index = JSON.parse(Buffer.from(content.get(root.digest)?.raw ?? []).toString());
    const [entry] = index.manifests;
    const twice = [entry, { ...entry, platform: { os: 'linux', architecture: 'arm64' } }];
    const raw = Buffer.from(JSON.stringify({ ...index, manifests: twice }));
    app.registry.put('library/app', [{ mediaType: root.mediaType, raw, tags: ['1'] }]);
    const layers = [{ location: dataUrl(layer), platforms: ['linux/arm64'] }];
    const { name } = await app.submit({ containerConfig: { layers } });
    const images = await checkImage(await app.head(name, '1'), descriptor => app.read(name, descriptor));
    expect(images.map(({ digest }) => digest === entry.digest)).toEqual([true, false]);
  });

  test('what two clients would read differently', async () => {
    const { root, content } = app.putImage();
    const source = Buffer.from(content.get(root.digest)?.raw ?? []).toString();
    for (const odd of [
      '"Manifests":[]',
      '"mediaType":"text/plain"',
      '"MANIFESTS":null',
      '"__proto__":1,"__proto__":2',
    ]) {
      const raw = Buffer.from(`${source.slice(0, -1)},${odd}}`);
      app.registry.put('library/app', [{ mediaType: root.mediaType, raw, tags: ['odd'] }]);
      const body = { containerImage: `${app.registry.host}/library/app@${digestOf(raw)}`, containerConfig };
      const response = await app.request('/v1alpha2/container', { method: 'POST', body });
      expect(response.status, odd).toBe(400);
    }
  });
});

/** Where a layer is that came with a request. */
function fileOf(digest: string): string {
  const hex = digest.slice('sha256:'.length);
  return join(app.directory, 'data/tokens/blobs/sha256', hex.slice(0, 2), hex);
}

describe('layers', () => {
  const raw = Buffer.from(layer);
  const digest = digestOf(raw);
  const put = () => app.registry.put('layers/one', [{ mediaType: 'application/octet-stream', raw }]);
  const pullLayer = async (name: string) => (await app.request(`/v2/${name}/blobs/${digest}`)).bytes();

  test.each([
    () => `docker://lab/v2/layers/one/blobs/${digest}`,
    () => `oci://LAB/layers/one@${digest}`,
    () => `oci://${app.registry.host}/layers/one@${digest}`,
  ])('are taken from a repository of an alias or a host (%#)', async location => {
    app.putImage();
    put();
    const { name } = await app.submit({ containerConfig: { layers: [{ location: location() }] } });
    expect(await pullLayer(name)).toEqual(new Uint8Array(raw));
    expect((await app.request(`/v2/${name}/blobs/${digest}`, { method: 'HEAD' })).status).toBe(200);
  });

  test.each([
    [
      'of a claim that does not fit',
      { location: dataUrl(layer), gzipDigest: `sha256:${'0'.repeat(64)}` },
      'gzipDigest',
    ],
    ['of a digest other than its location’s', { location: 'oci', gzipDigest: `sha256:${'0'.repeat(64)}` }, 'location'],
    ['at a private address', { location: 'http://127.0.0.1:1/layer.tar' }, 'private'],
    ['at an upstream that is not configured', { location: `oci://nobody/layers/one@${digest}` }, 'not configured'],
    ['of another scheme', { location: 'file:///etc/passwd' }, 'must be data:'],
  ])('are refused when they are %s', async (_, given, message) => {
    app.putImage();
    put();
    const location = given.location === 'oci' ? `oci://lab/layers/one@${digest}` : given.location;
    const body = { containerImage: app.image, containerConfig: { layers: [{ ...given, location }] } };
    const response = await app.request('/v1alpha2/container', { method: 'POST', body });
    expect(response.status).toBe(400);
    expect(await response.json()).toEqual({ message: expect.stringContaining(message) });
  });

  test.each(['HEAD', 'GET'])('that are lost are said to be, by %s too', async method => {
    app.putImage();
    const { name } = await app.submit({ containerConfig });
    await rm(fileOf(digest));
    const response = await app.request(`/v2/${name}/blobs/${digest}`, { method });
    expect(response.status).toBe(404);
    expect(await response.text()).toMatch(method === 'GET' ? /BLOB_UNKNOWN.*submit the request again/ : /^$/);
  });

  test('that were damaged on the disk are not served, and are lost from then on, until they come again', async () => {
    app.putImage();
    const { name } = await app.submit({ containerConfig });
    const raw = await readFile(fileOf(digest));
    await writeFile(fileOf(digest), raw.fill(1, raw.byteLength - 1));
    expect((await app.request(`/v2/${name}/blobs/${digest}`)).status).toBe(404);
    expect(app.log.join('')).toMatch(/"of":"tokens".*submit the same request again: its tokens then serve it/);
    expect((await app.request(`/v2/${name}/blobs/${digest}`, { method: 'HEAD' })).status).toBe(404);
    await app.submit({ containerConfig });
    expect(await (await app.request(`/v2/${name}/blobs/${digest}`)).bytes()).toEqual(new Uint8Array(layer));
  });

  test('are no records: those have what stands for them', async () => {
    app.putImage();
    await app.submit({ containerConfig });
    const records = await readRecords(app);
    expect(records.includes(layer)).toBe(false);
    expect(records.includes(Buffer.from(digest))).toBe(true);
  });

  test('of an included image go on top, each on its platform, however the platform is spelt', async () => {
    const included = app.putImage({ seed: 9, layers: 1, index: false, platforms: ['linux/amd64'] });
    app.registry.put('include/app', [...included.content.values()]);
    app.registry.put(
      'include/app',
      [...included.content.values()].slice(-1).map(root => ({ ...root, tags: ['1'] })),
    );
    const { root, content } = app.putImage({ platforms: ['linux/amd64'] });
    const spelt = Buffer.from(content.get(root.digest)?.raw ?? [])
      .toString()
      .replace('"architecture": "amd64"', '"architecture": "x86_64"');
    app.registry.put('library/app', [{ mediaType: root.mediaType, raw: Buffer.from(spelt), tags: ['1'] }]);
    const { name } = await app.submit({ containerIncludes: [`${app.registry.host}/include/app:1`] });
    const images = await checkImage(await app.head(name, '1'), descriptor => app.read(name, descriptor));
    expect(images.map(({ layers }) => layers.length)).toEqual([3]);
    const lacking = app.putImage();
    expect(lacking.root.digest).not.toBe(root.digest);
    const body = { containerImage: app.image, containerIncludes: ['lab/include/app:1'] };
    await app.restart('fresh');
    const response = await app.request('/v1alpha2/container', { method: 'POST', body });
    expect([response.status, await response.text()]).toEqual([
      400,
      expect.stringContaining('no layers for linux/arm64'),
    ]);
  });
});
