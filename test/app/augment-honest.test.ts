// What a request asks for is done on every platform, or refused with the reason; what an engine may make of it is reported.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import type { ImageManifest } from '../../src/oci/manifest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { formatPlatform, normalizePlatform } from '../../src/oci/platform.ts';
import { dataUrl, makeLayer, startApp, type TestApp } from '../support/app.ts';
import { generateImage } from '../support/images.ts';
import { checkImage } from '../support/oracle.ts';

const layer = await makeLayer('opt/tool', 'x');
const location = dataUrl(layer);

let app: TestApp;

beforeEach(async () => {
  app = await startApp();
});

afterEach(() => app.close());

async function answerTo(body: object): Promise<{ status: number; body: Record<string, unknown> }> {
  const sent = { containerImage: app.image, ...body };
  const response = await app.request('/v1alpha2/container', { method: 'POST', body: sent });
  return { status: response.status, body: Object(await response.json()) };
}

/** The layers of each image of what a token serves. */
async function layersOf(name: string): Promise<ReadonlyMap<string, ImageManifest['layers']>> {
  const images = await checkImage(await app.head(name, '1'), descriptor => app.read(name, descriptor));
  const entries = images.map(async ({ config, layers }) => {
    const { os, architecture, variant } = JSON.parse(Buffer.from(await app.read(name, config)).toString());
    return [formatPlatform(normalizePlatform({ os, architecture, variant })), layers] as const;
  });
  return new Map(await Promise.all(entries));
}

/** Puts an artifact under a name of its own. */
function putArtifact(repository: string, configType: string): void {
  const config = Buffer.from('{}');
  const data = Buffer.from('data');
  const descriptor = (mediaType: string, bytes: Buffer) => ({ mediaType, digest: digestOf(bytes), size: bytes.length });
  const raw = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: mediaTypes.ociManifest,
      config: descriptor(configType, config),
      layers: [descriptor('application/x-data', data)],
    }),
  );
  app.registry.put(repository, [
    { mediaType: configType, raw: config },
    { mediaType: 'application/x-data', raw: data },
    { mediaType: mediaTypes.ociManifest, raw, tags: ['1'] },
  ]);
}

test.each([
  ['a chart', 'application/vnd.cncf.helm.config.v1+json'],
  ['a wasm module', 'application/vnd.wasm.config.v0+json'],
  ['an artifact without a config', 'application/vnd.oci.empty.v1+json'],
])('%s is refused where changes are asked for, and served as it is where none are', async (_, configType) => {
  putArtifact('team/artifact', configType);
  const containerImage = `${app.registry.host}/team/artifact:1`;
  for (const containerConfig of [{ env: ['A=1'] }, { layers: [{ location }] }, { labels: { a: 'b' } }]) {
    expect(await answerTo({ containerImage, containerConfig })).toEqual({
      status: 400,
      body: {
        message: `${containerImage}: it is not an image but an artifact, such as a chart: it cannot be augmented`,
      },
    });
  }
  expect((await answerTo({ containerImage })).status).toBe(200);
});

test.each(['rel/dir', './rel', '..', 'C:rel', '~'])(
  'the working directory %s, which no runtime starts in, is refused',
  async workingDir => {
    app.putImage();
    expect(await answerTo({ containerConfig: { workingDir } })).toEqual({
      status: 400,
      body: { message: 'containerConfig.workingDir: must be an absolute path, such as /opt/tool' },
    });
  },
);

test.each(['/', '/opt/x', 'C:\\app', 'c:/app', '\\\\server\\share'])(
  'the working directory %s is absolute',
  async workingDir => {
    app.putImage({ platforms: [workingDir.startsWith('/') ? 'linux/amd64' : 'windows/amd64'] });
    expect((await answerTo({ containerConfig: { workingDir } })).status).toBe(200);
  },
);

test('images of Windows get all but layers of Linux, and the answer and the log say so', async () => {
  app.putImage({ platforms: ['windows/amd64', 'linux/amd64'] });
  const { body } = await answerTo({ containerConfig: { env: ['A=1'], layers: [{ location }] } });
  const warning = 'windows/amd64 gets only layers that name it in their platforms: Linux layers do not fit it';
  expect(body.warnings).toEqual([warning]);
  expect(app.log.some(line => line.includes(warning))).toBe(true);
  const layers = await layersOf(
    String(body.targetImage)
      .replace(/^[^/]+\//, '')
      .replace(/:1$/, ''),
  );
  expect([...layers].map(([platform, { length }]) => [platform, length])).toEqual([
    ['windows/amd64', 2],
    ['linux/amd64', 3],
  ]);
});

test('a layer that names Windows goes onto its images as it is', async () => {
  app.putImage({ platforms: ['windows/amd64', 'linux/amd64'] });
  const layers = [{ location: dataUrl(await makeLayer('Files/tool', 'x')), platforms: ['windows/amd64'] }];
  const { name } = await app.submit({ containerConfig: { layers } });
  expect([...(await layersOf(name)).values()].map(({ length }) => length)).toEqual([3, 2]);
});

test.each([
  ['linux/amd64', 'for another platform', ['linux/s390x']],
  ['windows/amd64', 'for Linux', undefined],
])('of an image for %s, layers that are all %s are refused', async (platform, _, platforms) => {
  app.putImage({ platforms: [platform] });
  const message = `${app.image}: none of the layers is for a platform of the image, which is for ${platform}`;
  const containerConfig = { layers: [{ location, ...(platforms && { platforms }) }] };
  expect(await answerTo({ containerConfig })).toEqual({ status: 400, body: { message } });
});

test.each([
  [124, undefined],
  [
    125,
    [
      "linux/amd64 now has 126 layers, more than the 125 that docker's engine accepts; containerd and podman accept more",
    ],
  ],
] as const)("one layer on %i is told where docker's engine does not take it", async (layers, warnings) => {
  app.putImage({ platforms: ['linux/amd64'], layers });
  expect((await answerTo({ containerConfig: { layers: [{ location }] } })).body.warnings).toEqual(warnings);
});

test('a layer whose address names an architecture is for that one, with one platform or several', async () => {
  app.putImage({ platforms: ['linux/amd64', 'linux/arm64'] });
  await app.configure({ layers: { allowPrivateAddresses: true } });
  const files = new Map<string, Buffer>();
  for (const architecture of ['amd64', 'arm64', 'aarch64']) {
    files.set(`/pkg/fusion-${architecture}.tar.gz?v=2.5`, await makeLayer('usr/bin/fusion', architecture));
  }
  app.registry.intercept(({ url = '' }, response) => {
    const file = files.get(url);
    if (file) response.end(file);
    return file !== undefined;
  });
  const layers = [...files.keys()].map(path => ({ location: `${app.registry.url}${path}` }));
  const digestFor = (architecture: string) => digestOf(files.get(`/pkg/fusion-${architecture}.tar.gz?v=2.5`) ?? layer);
  const tops = async (containerPlatform: string) => {
    const { name } = await app.submit({ containerConfig: { layers }, containerPlatform });
    return new Map(
      [...(await layersOf(name))].map(([platform, all]) => [platform, all.slice(2).map(each => each.digest)]),
    );
  };
  const arm = [digestFor('arm64'), digestFor('aarch64')];
  expect(await tops('amd64,arm64')).toEqual(
    new Map([
      ['linux/amd64', [digestFor('amd64')]],
      ['linux/arm64', arm],
    ]),
  );
  expect(await tops('linux/arm64')).toEqual(new Map([['linux/arm64', arm]]));
});

test('a list of platforms may end with a comma, and names an architecture', async () => {
  app.putImage({ platforms: ['linux/amd64', 'linux/arm/v7'] });
  expect((await answerTo({ containerPlatform: 'linux/amd64,arm, ' })).status).toBe(200);
  for (const containerPlatform of ['linux', 'windows', 'linux/linux', ',', 'amd64,,arm']) {
    const { status, body } = await answerTo({ containerPlatform });
    expect([status, body.message]).toEqual([
      400,
      expect.stringMatching(/^containerPlatform: ".*" is not a platform; expected/),
    ]);
  }
  expect((await answerTo({ containerPlatform: 'arm/v6' })).body.message).toMatch(/arm\/v6/);
  expect(await answerTo({ containerPlatform: 'linux/arm/v6' })).toEqual({
    status: 400,
    body: { message: `${app.image}: no image for linux/arm/v6; there is linux/amd64, linux/arm/v7` },
  });
});

test('each included image must be for every platform', async () => {
  app.putImage({ platforms: ['linux/amd64', 'linux/arm64'] });
  const put = (name: string, platforms: readonly string[]) => {
    const { root, content } = generateImage({ seed: platforms.length, platforms, layers: 1, family: 'oci' });
    const contents = [...content].map(([digest, each]) => ({
      ...each,
      ...(digest === root.digest && { tags: ['1'] }),
    }));
    app.registry.put(name, contents);
  };
  put('tools/all', ['linux/amd64', 'linux/arm64']);
  put('tools/one', ['linux/amd64']);
  const [all, one] = ['all', 'one'].map(name => `${app.registry.host}/tools/${name}:1`);
  expect((await answerTo({ containerIncludes: [all] })).status).toBe(200);
  expect(await answerTo({ containerIncludes: [all, one] })).toEqual({
    status: 400,
    body: { message: `${app.image}: containerIncludes: ${one} has no layers for linux/arm64; it is for linux/amd64` },
  });
});
