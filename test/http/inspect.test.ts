// The inspect API through a real app over a real registry; what it says of a failing source, submit says too.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type App, createApp } from '../../src/app.ts';
import { loadConfig } from '../../src/config.ts';
import { type GeneratedImage, generateImage, type ImageOptions } from '../support/images.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';

let directory: string;
let registry: TestRegistry;
let app: App;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'veneer-inspect-'));
  registry = await startRegistry();
  const file = join(directory, 'veneer.yaml');
  await writeFile(
    file,
    JSON.stringify({ dataDir: join(directory, 'data'), upstreams: { [registry.host]: { url: registry.url } } }),
  );
  app = await createApp({
    config: loadConfig({ file, env: {}, flags: {} }),
    log: pino({ level: 'silent' }),
    version: '0.0.0',
  });
});

afterEach(async () => {
  await app.close();
  await registry.close();
  await rm(directory, { recursive: true });
});

test.each(['oci', 'docker'] as const)('shows config and manifest of an image (%s)', async family => {
  const { root } = putImage({ index: false, family });
  const response = await inspect({ containerImage: image(), towerEndpoint: null });
  expect([response.status, await response.json()]).toEqual([
    200,
    {
      container: expect.objectContaining({
        registry: registry.host,
        imageName: 'library/app',
        reference: '1',
        digest: root.digest,
        oci: family === 'oci',
        v2: family === 'docker',
        config: expect.objectContaining({
          architecture: 'amd64',
          config: expect.objectContaining({ env: ['PATH=/usr/bin:/bin', 'LANG=C'], cmd: ['sh'] }),
        }),
        manifest: expect.objectContaining({ schemaVersion: 2, mediaType: root.mediaType }),
      }),
    },
  ]);
});

test('shows an index when no platform is asked for', async () => {
  const { root } = putImage({});
  const { index } = Object(await (await inspect({ containerImage: image() })).json());
  expect(index).toMatchObject({ schemaVersion: 2, mediaType: root.mediaType, digest: root.digest });
  expect(index.manifests).toHaveLength(2);
});

test.each([{ nested: true }, { noPlatform: true }, { attestations: true }])('finds a platform (%o)', async options => {
  putImage(options);
  const { container } = Object(await (await inspect({ containerImage: image() }, 'aarch64')).json());
  expect(container.config).toMatchObject({ os: 'linux', architecture: 'arm64' });
});

test.each([{}, { index: false }])('names the platforms there are when one is lacking (%o)', async options => {
  putImage(options);
  const response = await inspect({ containerImage: image() }, 'linux/s390x');
  expect([response.status, await response.text()]).toEqual([400, expect.stringContaining('there is linux/amd64')]);
});

test.each(['/v1alpha1/inspect', '/v1alpha2/container'])('%s names an image that is not there', async path => {
  const response = await post(path, { containerImage: image() });
  const { message } = Object(await response.json());
  expect([response.status, message]).toEqual([400, expect.stringContaining(image())]);
  expect(message).toContain('status 404');
});

test.each(['/v1alpha1/inspect', '/v1alpha2/container'])('%s passes on a limit of the upstream', async path => {
  registry.intercept((_request, response) => {
    response.writeHead(429, { 'retry-after': '77' }).end();
    return true;
  });
  const response = await post(path, { containerImage: image() });
  expect([response.status, response.headers.get('retry-after')]).toEqual([429, '77']);
});

test.each([
  [{ containerImage: null }, undefined],
  [{ containerImage: 'Bad' }, undefined],
  [{ containerImage: '127.0.0.1:1/app' }, undefined],
  [[], undefined],
  [{ containerImage: 'app' }, 'a/b/c/d'],
])('refuses %j with platform %s', async (body, platform) => {
  const response = await inspect(body, platform);
  expect([response.status, await response.json()]).toEqual([400, { message: expect.any(String) }]);
});

function image(): string {
  return `${registry.host}/library/app:1`;
}

function putImage(options: Partial<ImageOptions>): GeneratedImage {
  const platforms = ['linux/amd64', 'linux/arm64'];
  const generated = generateImage({ seed: 1, platforms, layers: 1, family: 'oci', ...options });
  const contents = [...generated.content].map(([digest, content]) => ({
    ...content,
    ...(digest === generated.root.digest && { tags: ['1'] }),
  }));
  registry.put('library/app', contents);
  return generated;
}

function inspect(body: unknown, platform?: string): Promise<Response> {
  return post(`/v1alpha1/inspect${platform ? `?platform=${encodeURIComponent(platform)}` : ''}`, body);
}

async function post(path: string, body: unknown): Promise<Response> {
  const headers = { Host: '127.0.0.1:8080', 'Content-Type': 'application/json' };
  return app.fetch(
    new Request(`http://127.0.0.1:8080${path}`, { method: 'POST', headers, body: JSON.stringify(body) }),
  );
}
