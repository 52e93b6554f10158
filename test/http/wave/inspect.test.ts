// The inspect API through a real app over a real registry; what it says of a failing source, submit says too.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { digestOf } from '../../../src/oci/digest.ts';
import { startApi, type TestApi } from '../api.ts';

let api: TestApi;

beforeEach(async () => {
  api = await startApi();
});

afterEach(async () => {
  await api.close();
});

test.each(['oci', 'docker'] as const)('shows config and manifest of an image (%s)', async family => {
  const { root } = api.putImage({ index: false, family });
  const response = await inspect({ containerImage: api.image, towerEndpoint: null });
  expect([response.status, await response.json()]).toEqual([
    200,
    {
      container: expect.objectContaining({
        registry: api.registry.host,
        hostName: `https://${api.registry.host}`,
        imageName: 'library/app',
        reference: '1',
        digest: root.digest,
        v1: false,
        v2: true,
        oci: family === 'oci',
        config: expect.objectContaining({
          architecture: 'amd64',
          config: expect.objectContaining({ env: ['PATH=/usr/bin:/bin', 'LANG=C'], cmd: ['sh'] }),
        }),
        manifest: expect.objectContaining({ schemaVersion: 2, mediaType: root.mediaType }),
      }),
    },
  ]);
});

test('shows what runs the image under the names that clients read, without what is null', async () => {
  const run = {
    Hostname: 'h',
    Domainname: 'd',
    WorkingDir: '/w',
    Entrypoint: null,
    AttachStdin: false,
    constructor: 1,
  };
  api.putImage({ index: false, run });
  const { container } = Object(await (await inspect({ containerImage: api.image })).json());
  expect(container.config.config).toEqual({
    env: ['PATH=/usr/bin:/bin', 'LANG=C'],
    cmd: ['sh'],
    hostName: 'h',
    domainName: 'd',
    workingDir: '/w',
    attachStdin: false,
    constructor: 1,
  });
});

test.each([
  ['2024-02-03T04:05:06.789012345Z', '2024-02-03T04:05:06.789Z'],
  ['2024-02-03T04:05:06+01:00', '2024-02-03T03:05:06.000Z'],
  ['yesterday', undefined],
  [null, undefined],
])('shows the time %s as %s', async (created, shown) => {
  const config = {
    created,
    architecture: 'amd64',
    os: 'linux',
    rootfs: { type: 'layers', diff_ids: [] },
  };
  putDocuments(config);
  const { container } = Object(await (await inspect({ containerImage: api.image })).json());
  expect(container.config.created).toBe(shown);
});

test('leaves an alias as it is, for it has no address', async () => {
  api.putImage({ index: false });
  const { container } = Object(await (await inspect({ containerImage: 'lab/library/app:1' })).json());
  expect(container).toMatchObject({ registry: 'lab', hostName: 'lab', imageName: 'library/app' });
});

test('shows an index when no platform is asked for', async () => {
  const { root } = api.putImage();
  const { index } = Object(await (await inspect({ containerImage: api.image })).json());
  expect(index).toMatchObject({ schemaVersion: 2, mediaType: root.mediaType, digest: root.digest });
  expect(index.manifests).toHaveLength(2);
});

test.each([{ nested: true }, { noPlatform: true }, { attestations: true }])('finds a platform (%o)', async options => {
  api.putImage(options);
  const { container } = Object(await (await inspect({ containerImage: api.image }, 'aarch64')).json());
  expect(container.config).toMatchObject({ os: 'linux', architecture: 'arm64' });
});

test.each([{}, { index: false }])('names the platforms there are when one is lacking (%o)', async options => {
  api.putImage(options);
  const response = await inspect({ containerImage: api.image }, 'linux/s390x');
  expect([response.status, await response.text()]).toEqual([400, expect.stringContaining('there is linux/amd64')]);
});

test('refuses an image whose config is none', async () => {
  putDocuments([]);
  const response = await inspect({ containerImage: api.image });
  expect([response.status, await response.json()]).toEqual([
    400,
    { message: `${api.image}: invalid image config: the document: Invalid input: expected object, received array` },
  ]);
});

test.each(['/v1alpha1/inspect', '/v1alpha2/container'])('%s names an image that is not there', async path => {
  const response = await api.post(path, { containerImage: api.image });
  const { message } = Object(await response.json());
  expect([response.status, message]).toEqual([400, expect.stringContaining(api.image)]);
  expect(message).toContain('status 404');
});

test.each(['/v1alpha1/inspect', '/v1alpha2/container'])('%s passes on a limit of the upstream', async path => {
  api.registry.intercept((_request, response) => {
    response.writeHead(429, { 'retry-after': '77' }).end();
    return true;
  });
  const response = await api.post(path, { containerImage: api.image });
  expect([response.status, response.headers.get('retry-after')]).toEqual([429, '77']);
});

test.each([
  [{ containerImage: null }, '', 'containerImage: is required, as a string'],
  [{ containerImage: 1 }, '', 'containerImage: is required, as a string'],
  [[], '', 'containerImage: is required, as a string'],
  ['{', '', 'the body must be a JSON object'],
  [{ containerImage: 'Bad' }, '', 'containerImage: invalid repository name "Bad"'],
  [{ containerImage: 'docker://app' }, '', 'containerImage: an image name takes no prefix such as docker://'],
  [{ containerImage: 'app' }, 'a/b/c/d', 'platform: "a/b/c/d" is not a platform'],
  [{ containerImage: 'app' }, 'linux/amd64,linux/arm64', 'platform: "linux/amd64,linux/arm64" is not a platform'],
])('refuses %j with platform "%s"', async (body, platform, message) => {
  const response = await inspect(body, platform);
  expect([response.status, await response.json()]).toEqual([400, { message: expect.stringContaining(message) }]);
});

/** One image with this config, no layers, under the image's name. */
function putDocuments(config: unknown): void {
  const raw = new TextEncoder().encode(JSON.stringify(config));
  const mediaType = 'application/vnd.oci.image.config.v1+json';
  const manifest = {
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: { mediaType, digest: digestOf(raw), size: raw.byteLength },
    layers: [],
  };
  const document = new TextEncoder().encode(JSON.stringify(manifest));
  api.registry.put('library/app', [
    { mediaType, raw },
    { mediaType: manifest.mediaType, raw: document, tags: ['1'] },
  ]);
}

function inspect(body: unknown, platform = ''): Promise<Response> {
  return api.post(`/v1alpha1/inspect${platform && `?platform=${encodeURIComponent(platform)}`}`, body);
}
