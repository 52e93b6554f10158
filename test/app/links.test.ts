// Layers on images whose directories are links: every way in puts them where these lead, on each platform by its own, and keeps what is
// there.
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { parseManifest } from '../../src/oci/manifest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { dataUrl, HOST, makeLayer, startApp, type TestApp } from '../support/app.ts';
import { packTar, type TarFile } from '../support/build-images.ts';
import { type FileTree, layOver, readTarFiles } from '../support/file-tree.ts';
import { type ImageOptions, pack } from '../support/images.ts';
import { checkImage } from '../support/oracle.ts';
import { countRecords } from './records.ts';

const NAME = 'lab/library/app';
const PLATFORMS = ['linux/amd64', 'linux/arm64'];

const dir = (name: string, mode = 0o755): TarFile => ({ name: `${name}/`, type: 'directory', mode });
const link = (name: string, linkname: string): TarFile => ({ name, type: 'symlink', linkname });
const file = (name: string): TarFile => ({ name, body: `of ${name}`, mode: 0o755 });

const SHELL = [dir('usr'), dir('usr/bin', 0o711), file('usr/bin/sh'), dir('usr/lib'), dir('run', 0o1777), dir('var')];
/** Of amd64 the links are in a layer above their targets; arm64 has none. */
const MERGED = [SHELL, [link('bin', 'usr/bin'), link('lib', 'usr/lib'), link('var/run', '/run')]];
const PLAIN = [[dir('bin'), file('bin/sh'), dir('lib'), dir('var'), dir('var/run')]];

let app: TestApp;

beforeEach(async () => {
  app = await startApp();
});

afterEach(() => app.close());

async function putImage(options: Partial<ImageOptions> = {}): Promise<ReturnType<TestApp['putImage']>> {
  const packAll = (layers: readonly (readonly TarFile[])[]) => Promise.all(layers.map(packTar));
  const tars = { 'linux/amd64': await packAll(MERGED), 'linux/arm64': await packAll(PLAIN) };
  return app.putImage({ platforms: PLATFORMS, tars, ...options });
}

async function ruleDirectory(...files: readonly string[]): Promise<object> {
  const directory = join(app.directory, 'layer');
  for (const name of files) {
    await mkdir(join(directory, name, '..'), { recursive: true });
    await writeFile(join(directory, name), `own ${name}`, { mode: 0o755 });
  }
  return { name: 'tools', match: { image: '**' }, layers: [{ directory }] };
}

interface Pulled {
  readonly digest: Digest;
  readonly layers: readonly Digest[];
  readonly files: FileTree;
}

/** Each image below the reference as an engine unpacks it, with every digest, size and diffID checked. */
async function pull(reference = '1', name = NAME): Promise<readonly Pulled[]> {
  const images = await checkImage(await app.head(name, reference), descriptor => app.read(name, descriptor));
  return Promise.all(
    images.map(async ({ digest, layers }) => {
      let files: FileTree = new Map();
      for (const layer of layers) {
        const raw = await app.read(name, layer);
        files = layOver(files, await readTarFiles(unpack(raw, layer.mediaType)));
      }
      return { digest, layers: layers.map(each => each.digest), files };
    }),
  );
}

function unpack(raw: Uint8Array, mediaType: string): Uint8Array {
  if (/gzip$/.test(mediaType)) return gunzipSync(raw);
  return /zstd$/.test(mediaType) ? zstdDecompressSync(raw) : raw;
}

const own = (name: string) => ({ type: 'file', mode: 0o755, body: `own ${name}` });

/** That the layer with bin/tool, lib/x.so and var/run/x has come, and nothing has gone. */
function expectPlaced([amd64, arm64]: readonly Pulled[]): void {
  expect(Object.fromEntries(amd64?.files ?? [])).toMatchObject({
    bin: { type: 'symlink', target: 'usr/bin' },
    lib: { type: 'symlink', target: 'usr/lib' },
    'var/run': { type: 'symlink', target: '/run' },
    'usr/bin': { type: 'directory', mode: 0o711 },
    run: { type: 'directory', mode: 0o1777 },
    'usr/bin/sh': { body: 'of usr/bin/sh' },
    'usr/bin/tool': own('bin/tool'),
    'usr/lib/x.so': own('lib/x.so'),
    'run/x': own('var/run/x'),
  });
  expect(Object.fromEntries(arm64?.files ?? [])).toMatchObject({
    'bin/sh': { body: 'of bin/sh' },
    'bin/tool': own('bin/tool'),
    'lib/x.so': own('lib/x.so'),
    'var/run/x': own('var/run/x'),
  });
}

const FILES = ['bin/tool', 'lib/x.so', 'var/run/x'];

const LAYER = FILES.map(name => ({ name, body: `own ${name}`, mode: 0o755 }));

describe('a layer over links of the image', () => {
  test('comes by a rule, on each platform where it belongs, and again after a restart with an empty cache', async () => {
    await putImage();
    await app.configure({ rules: [await ruleDirectory(...FILES)] });
    const first = await pull();
    expectPlaced(first);
    const { digest } = await app.head(NAME, '1');
    await app.configure({ rules: [] });
    await rm(join(app.directory, 'data/content'), { recursive: true });
    await app.restart();
    expect(await pull(digest)).toEqual(first);
  });

  test.each<readonly [string, Partial<ImageOptions>]>([
    ['Docker', { family: 'docker' }],
    ['one image alone', { index: false, platforms: ['linux/amd64'] }],
    ['a nested index', { nested: true }],
  ])('comes onto %s', async (_, options) => {
    await putImage(options);
    await app.configure({ rules: [await ruleDirectory('bin/tool')] });
    const [amd64] = await pull();
    expect(amd64?.files.get('bin')).toEqual({ type: 'symlink', target: 'usr/bin' });
    expect(amd64?.files.get('usr/bin/tool')).toEqual(own('bin/tool'));
  });

  test('is placed by layers that are read while the config of the image is on its way', async () => {
    const { content, root } = await putImage({ index: false, platforms: ['linux/amd64'] });
    const raw = (digest: Digest) => content.get(digest)?.raw ?? new Uint8Array();
    const image = parseManifest(raw(root.digest), mediaTypes.ociManifest, root.digest);
    if (image.kind !== 'image') throw new Error('an image alone');
    const { config, layers } = image;
    const wanted = Promise.withResolvers<void>();
    app.registry.intercept(({ url = '' }, response) => {
      if (layers.some(({ digest }) => url.endsWith(digest))) wanted.resolve();
      if (!url.endsWith(config.digest)) return false;
      const answer = () => response.writeHead(200, { 'content-length': config.size }).end(raw(config.digest));
      void wanted.promise.then(answer);
      return true;
    });
    await app.configure({ rules: [await ruleDirectory('bin/tool')] });
    const [amd64] = await pull();
    expect(amd64?.files.get('usr/bin/tool')).toEqual(own('bin/tool'));
  });

  test.each(['none', 'gzip', 'zstd'] as const)('comes by a submit, packed as %s', async compression => {
    await putImage();
    const tar = await packTar(LAYER);
    const location = dataUrl(Buffer.from(pack(tar, compression)));
    const { name, targetDigest } = await app.submit({ containerConfig: { layers: [{ location }] } });
    expectPlaced(await pull('1', name));
    expect((await app.head(name, '1')).digest).toBe(targetDigest);
    await app.restart('data');
    expectPlaced(await pull('1', name));
  });

  test('comes with an included image', async () => {
    await putImage();
    const included = app.putImage({ seed: 7, platforms: PLATFORMS, tars: each(await packTar(LAYER)) });
    app.registry.put(
      'library/tools',
      [...included.content].map(([digest, content]) => ({
        ...content,
        ...(digest === included.root.digest && { tags: ['1'] }),
      })),
    );
    await putImage();
    const { name } = await app.submit({ containerIncludes: [`${app.registry.host}/library/tools:1`] });
    expectPlaced(await pull('1', name));
  });

  test('stays what it is where it crosses no link, and is the same for equal links', async () => {
    await putImage();
    const layer = await makeLayer('opt/tool', 'own');
    const { name } = await app.submit({ containerConfig: { layers: [{ location: dataUrl(layer) }] } });
    const images = await pull('1', name);
    expect(images.map(({ layers }) => layers.at(-1))).toEqual([digestOf(layer), digestOf(layer)]);
    const tars = await Promise.all(MERGED.map(packTar));
    app.putImage({ seed: 2, platforms: PLATFORMS, tars: { 'linux/amd64': tars, 'linux/arm64': tars } });
    await app.restart('other');
    await app.configure({ rules: [await ruleDirectory('bin/tool')] });
    const [amd64, arm64] = await pull();
    expect(amd64?.layers.at(-1)).toBe(arm64?.layers.at(-1));
  });

  test('comes with a frozen image', async () => {
    await putImage();
    const location = dataUrl(Buffer.from(await packTar(LAYER)));
    const response = await app.request('/v1alpha2/container', {
      method: 'POST',
      body: { containerImage: app.image, freeze: true, containerConfig: { layers: [{ location }] } },
    });
    const { targetImage, requestId, moved } = Object(await response.json());
    expect(moved).toMatchObject([{ platform: 'linux/amd64', count: 3 }]);
    await expect
      .poll(async () => Object(await (await app.request(`/v1alpha2/container/${requestId}/status`)).json()))
      .toMatchObject({ status: 'DONE', succeeded: true });
    const [name = '', tag = ''] = String(targetImage)
      .slice(HOST.length + 1)
      .split(':');
    expectPlaced(await pull(tag, name));
  });

  test('is reported: by the answer, the explanation and the provenance', async () => {
    await putImage();
    const layer = Buffer.from(await packTar(LAYER));
    const response = await app.request('/v1alpha2/container', {
      method: 'POST',
      body: { containerImage: app.image, containerConfig: { layers: [{ location: dataUrl(layer) }] } },
    });
    const entries = [
      { from: 'bin/tool', to: 'usr/bin/tool' },
      { from: 'lib/x.so', to: 'usr/lib/x.so' },
      { from: 'var/run/x', to: 'run/x' },
    ];
    expect(Object(await response.json()).moved).toEqual([
      { platform: 'linux/amd64', layer: digestOf(layer), digest: expect.any(String), entries, count: 3 },
    ]);
    await app.configure({ rules: [await ruleDirectory(...FILES)] });
    const explained = Object(await (await app.request(`/v1/rules/explain?image=${NAME}:1`)).json());
    const [amd64, arm64] = explained.platforms;
    expect(amd64.layers).toMatchObject([{ rule: 'tools', moved: { entries, count: 3 } }]);
    expect(arm64.layers[0]).not.toHaveProperty('moved');
    const [image] = await pull();
    expect(await provenanceOf(image?.digest ?? '')).toMatchObject({
      moved: [
        {
          layer: arm64.layers[0].digest,
          digest: amd64.layers[0].digest,
          directories: [
            { from: 'bin', to: 'usr/bin' },
            { from: 'lib', to: 'usr/lib' },
            { from: 'var/run', to: 'run' },
          ],
        },
      ],
    });
  });
});

describe('the layers of the image', () => {
  test('are read once, regardless of who comes, and never where a layer lies in the root alone', async () => {
    const image = await putImage();
    const configs = manifestsOf(image).flatMap(manifest => (manifest.kind === 'image' ? manifest.config.digest : []));
    const isConfig = (url: string) => configs.some(digest => url.includes(digest));
    const blobs = () => app.registry.requests.filter(({ method, url }) => method === 'GET' && url.includes('/blobs/'));
    const submit = async (name: string) =>
      app.submit({ containerConfig: { layers: [{ location: dataUrl(await makeLayer(name, 'own')) }] } });
    await submit('tool');
    expect(blobs()).toHaveLength(2);
    await Promise.all([submit('bin/tool'), submit('bin/other')]);
    expect(blobs()).toHaveLength(2 + 3);
    // What was read of these and of the three on top of them is recorded in the background.
    await expect.poll(() => countRecords(app, 'layer-index')).toBe(3 + 3);
    await app.restart('data');
    await rm(join(app.directory, 'data/content'), { recursive: true, force: true });
    await submit('bin/third');
    expect(blobs().filter(({ url }) => !isConfig(url))).toHaveLength(3);
  });

  test('refuse a layer where they cannot be had, or lead nowhere', async () => {
    const image = await putImage();
    const [lowest = ''] = layersOf(image);
    app.registry.intercept(({ url = '' }, response) => {
      if (url.includes(lowest)) response.writeHead(404).end();
      return url.includes(lowest);
    });
    expect(await refusal('bin/tool')).toMatch(/its layer sha256:\w+ cannot be read/);
    app.registry.intercept(({ url = '' }, response) => {
      if (url.includes(lowest)) response.writeHead(503).end();
      return url.includes(lowest);
    });
    await app.configure({ rules: [await ruleDirectory('bin/tool')], cache: { negative: '0s' } });
    const response = await app.request(`/v2/${NAME}/manifests/1`);
    expect([response.status, await response.text()]).toEqual([503, expect.stringContaining('cannot be read now')]);
    app.registry.intercept(({ url = '' }, answer) => {
      if (url.includes(lowest)) answer.writeHead(200).end('other bytes');
      return url.includes(lowest);
    });
    const lied = await app.request(`/v2/${NAME}/manifests/1`);
    expect([lied.status, await lied.text()]).toEqual([502, expect.stringContaining(lowest)]);
    app.registry.intercept();
    expect((await pull()).length).toBe(2);
    const circle = await packTar([link('a', 'b'), link('b', 'a')]);
    app.putImage({ seed: 3, platforms: PLATFORMS, tars: each(circle) });
    await app.restart('anew');
    expect(await refusal('a/tool')).toMatch(/below a, a link of the image that is part of a loop/);
  });

  test('refuse a layer within a time and within bounds, and what was read counts for who comes again', async () => {
    const image = await putImage();
    const [lowest = ''] = layersOf(image);
    const gate = Promise.withResolvers<void>();
    app.registry.intercept(({ url = '' }, response) => {
      if (!url.includes(lowest)) return false;
      const { raw } = image.content.get(lowest) ?? {};
      response.writeHead(200, { 'Content-Length': raw?.byteLength });
      void gate.promise.then(() => response.end(raw));
      return true;
    });
    await app.configure({ rules: [await ruleDirectory(...FILES)], limits: { linkWait: '300ms' } });
    const response = await app.request(`/v2/${NAME}/manifests/1`);
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '5']);
    expect(await response.text()).toContain('are not known yet');
    const location = dataUrl(await makeLayer('bin/other', 'own'));
    const submitted = await app.request('/v1alpha2/container', {
      method: 'POST',
      body: { containerImage: app.image, containerConfig: { layers: [{ location }] } },
    });
    expect([submitted.status, submitted.headers.get('retry-after')]).toEqual([503, '5']);
    gate.resolve();
    await expect.poll(async () => (await app.head(NAME, '1')).mediaType).toBe(mediaTypes.ociIndex);
    expectPlaced(await pull());
    await app.configure({ limits: { indexedEntries: 3 } });
    await app.restart('small');
    expect(await refusal('bin/tool')).toMatch(/cannot be read: it has more than 3 entries/);
  });

  test('tell nothing of themselves to a repository that only names them', async () => {
    const image = await putImage();
    await app.submit({ containerConfig: { layers: [{ location: dataUrl(await makeLayer('bin/tool', 'own')) }] } });
    const layers = new Set<string>(layersOf(image));
    app.registry.put(
      'thief/app',
      [...image.content].flatMap(([digest, content]) =>
        layers.has(digest) ? [] : { ...content, ...(digest === image.root.digest && { tags: ['1'] }) },
      ),
    );
    const stolen = `${app.registry.host}/thief/app:1`;
    expect(await refusal('bin/tool', stolen)).toMatch(/its layer sha256:\w+ cannot be read/);
  });
});

const each = (tar: Uint8Array) => Object.fromEntries(PLATFORMS.map(platform => [platform, [tar]]));

function manifestsOf({ content }: Awaited<ReturnType<typeof putImage>>) {
  const manifests = [...content.values()].filter(({ mediaType }) => mediaType === mediaTypes.ociManifest);
  return manifests.map(({ raw, mediaType }) => parseManifest(raw, mediaType));
}

function layersOf(image: Awaited<ReturnType<typeof putImage>>): readonly string[] {
  return manifestsOf(image)
    .flatMap(manifest => (manifest.kind === 'image' ? manifest.layers : []))
    .map(l => l.digest);
}

/** The message of a submit that is refused. */
async function refusal(name: string, containerImage = app.image): Promise<string> {
  const location = dataUrl(await makeLayer(name, 'own'));
  const response = await app.request('/v1alpha2/container', {
    method: 'POST',
    body: { containerImage, containerConfig: { layers: [{ location }] } },
  });
  expect(response.status).toBe(400);
  return Object(await response.json()).message;
}

async function provenanceOf(digest: string): Promise<object> {
  const index = Object(await (await app.request(`/v2/${NAME}/referrers/${digest}`)).json());
  const manifest = Object(await (await app.request(`/v2/${NAME}/manifests/${index.manifests[0].digest}`)).json());
  return Object(await (await app.request(`/v2/${NAME}/blobs/${manifest.layers[0].digest}`)).json());
}
