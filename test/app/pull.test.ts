// Plain pulls: what an upstream has, byte for byte, verified, and fetched once.
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { parseManifest } from '../../src/oci/manifest.ts';
import { isIndexType, mediaTypes } from '../../src/oci/media-type.ts';
import { PLATFORMS, startApp, type TestApp } from '../support/app.ts';
import type { GeneratedImage } from '../support/images.ts';
import { checkImage } from '../support/oracle.ts';

const NAME = 'lab/library/app';

let app: TestApp;

beforeEach(async () => {
  app = await startApp();
});

afterEach(() => app.close());

test.each([{ family: 'oci' }, { family: 'docker' }, { family: 'mixed', nested: true, attestations: true }] as const)(
  'serve the bytes and digests of the upstream (%o)',
  async options => {
    const { root, content } = app.putImage(options);
    expect(await app.head(NAME, '1')).toEqual(root);
    expect(await checkImage(root, descriptor => app.read(NAME, descriptor))).toHaveLength(PLATFORMS.length);
    for (const [digest, { mediaType, raw }] of content) {
      expect(await app.read(NAME, { mediaType, digest: digestOf(raw), size: 0 }), digest).toEqual(new Uint8Array(raw));
    }
  },
);

test('pass on what two clients would read differently, byte for byte', async () => {
  const { root, content } = app.putImage();
  const raw = Buffer.from(
    `${Buffer.from(content.get(root.digest)?.raw ?? [])
      .toString()
      .slice(0, -1)},"Manifests":[]}`,
  );
  app.registry.put('library/app', [{ mediaType: root.mediaType, raw, tags: ['odd'] }]);
  expect(Buffer.from(await app.read(NAME, await app.head(NAME, 'odd')))).toEqual(raw);
});

test('serve a manifest by a digest of sha512, under that digest', async () => {
  const { root, content } = app.putImage();
  const raw = content.get(root.digest)?.raw ?? new Uint8Array();
  const digest = digestOf(raw, 'sha512');
  app.registry.intercept((request, response) => {
    if (!request.url?.endsWith(digest)) return false;
    response.writeHead(200, { 'content-type': root.mediaType }).end(raw);
    return true;
  });
  expect((await app.head(NAME, digest)).digest).toBe(digest);
  await app.restart();
  app.registry.intercept((_request, response) => Boolean(response.writeHead(503).end()));
  expect(await app.read(NAME, { ...root, digest })).toEqual(new Uint8Array(raw));
});

test('answer 304 to a client that has the digest', async () => {
  const { root } = app.putImage();
  const response = await app.request(`/v2/${NAME}/manifests/1`, { headers: { 'If-None-Match': `"${root.digest}"` } });
  expect([response.status, await response.text()]).toEqual([304, '']);
});

describe('a client that accepts no index', () => {
  const headers = { Accept: `${mediaTypes.ociManifest}, ${mediaTypes.dockerManifest}` };

  test.each([
    {},
    { nested: true, platforms: PLATFORMS.toReversed() },
    { noPlatform: true },
    { family: 'docker' },
  ] as const)('gets the image for linux/amd64 for a tag (%o)', async options => {
    app.putImage(options);
    const response = await app.request(`/v2/${NAME}/manifests/1`, { headers });
    const manifest = parseManifest(await response.bytes(), response.headers.get('content-type') ?? '');
    if (manifest.kind !== 'image') throw new Error(manifest.kind);
    const config = JSON.parse(Buffer.from(await app.read(NAME, manifest.config)).toString());
    expect(config).toMatchObject({ os: 'linux', architecture: 'amd64' });
    expect(response.headers.get('docker-content-digest')).toBe(manifest.digest);
  });

  test('is told the platforms there are, where that one is not', async () => {
    app.putImage({ platforms: ['linux/arm64', 'windows/amd64'] });
    const response = await app.request(`/v2/${NAME}/manifests/1`, { headers });
    expect([response.status, await response.json()]).toEqual([
      404,
      {
        errors: [
          { code: 'MANIFEST_UNKNOWN', message: 'no image for linux/amd64; there is linux/arm64, windows/amd64' },
        ],
      },
    ]);
  });

  test('gets the index that it asks for by digest', async () => {
    const { root } = app.putImage();
    const response = await app.request(`/v2/${NAME}/manifests/${root.digest}`, { headers });
    expect(isIndexType(response.headers.get('content-type') ?? '')).toBe(true);
  });
});

test('fetch each blob once for many who ask at once', async () => {
  const { digest, raw } = layerOf(app.putImage());
  const path = `/v2/${NAME}/blobs/${digest}`;
  const bodies = await Promise.all(Array.from({ length: 20 }, async () => (await app.request(path)).bytes()));
  expect(bodies.every(body => body.byteLength === raw.byteLength)).toBe(true);
  expect(app.registry.requests.filter(({ url }) => url.includes('/blobs/'))).toHaveLength(1);
});

test('ask the upstream once for a tag, its manifest, and no more while it is fresh', async () => {
  app.putImage();
  await Promise.all(Array.from({ length: 20 }, () => app.head(NAME, '1')));
  const { root } = app.putImage();
  await app.read(NAME, root);
  expect(app.registry.requests.map(({ method }) => method)).toEqual(['HEAD', 'GET']);
});

test('serve a part of a blob, and refuse one beyond its end', async () => {
  const { digest, raw } = layerOf(app.putImage());
  const path = `/v2/${NAME}/blobs/${digest}`;
  const part = await app.request(path, { headers: { Range: 'bytes=2-5' } });
  expect(part.status).toBe(206);
  expect(part.headers.get('content-range')).toBe(`bytes 2-5/${raw.byteLength}`);
  expect(Buffer.from(await part.bytes())).toEqual(Buffer.from(raw.subarray(2, 6)));
  const beyond = await app.request(path, { headers: { Range: 'bytes=99999999-' } });
  expect([beyond.status, await beyond.json()]).toMatchObject([416, { errors: [{ code: 'RANGE_INVALID' }] }]);
});

test('never keep or wholly deliver a blob that is not what its digest says', async () => {
  const { digest, raw } = layerOf(app.putImage());
  const path = `/v2/${NAME}/blobs/${digest}`;
  app.registry.intercept((request, response) => {
    if (!request.url?.includes('/blobs/')) return false;
    response.writeHead(200, { 'content-length': raw.byteLength }).end(Buffer.alloc(raw.byteLength));
    return true;
  });
  await expect((await app.request(path)).bytes()).rejects.toThrow();
  expect(app.log.join('')).toContain('a transfer failed');
  app.registry.intercept();
  expect(await (await app.request(path)).bytes()).toEqual(new Uint8Array(raw));
});

test('read content only through a repository that has it', async () => {
  const image = app.putImage();
  await checkImage(image.root, descriptor => app.read(NAME, descriptor));
  app.registry.put('other/app', [{ mediaType: 'text/plain', raw: Buffer.from('x') }]);
  for (const [kind, digest] of [
    ['blobs', layerOf(image).digest],
    ['manifests', image.root.digest],
  ]) {
    expect((await app.request(`/v2/lab/other/app/${kind}/${digest}`)).status).toBe(404);
  }
});

test.each(['manifests', 'blobs'])('fetch %s again that the disk has damaged, before they are used', async kind => {
  const image = app.putImage({ index: false });
  const { name } = await app.submit({ containerImage: 'lab/library/app:1', containerConfig: { env: ['A=1'] } });
  await checkImage(await app.head(name, '1'), descriptor => app.read(name, descriptor));
  await app.restart();
  const damaged = await damage(app, image, kind === 'manifests');
  expect(damaged).toBeGreaterThan(0);
  app.registry.requests.length = 0;
  await checkImage(await app.head(name, '1'), descriptor => app.read(name, descriptor));
  expect(await app.read(NAME, image.root)).toEqual(new Uint8Array(image.content.get(image.root.digest)?.raw ?? []));
  expect(app.registry.requests.filter(({ method, url }) => method === 'GET' && url.includes(kind))).toHaveLength(1);
});

/** Damages the kept manifest, or the kept config; how many files that were. */
async function damage({ directory }: TestApp, { content }: GeneratedImage, isManifest: boolean): Promise<number> {
  const type = isManifest ? mediaTypes.ociManifest : mediaTypes.ociConfig;
  const hexes = [...content].filter(([, { mediaType }]) => mediaType === type).map(([digest]) => digest.slice(7));
  const blobs = join(directory, 'data/content/blobs');
  const files = (await readdir(blobs, { recursive: true })).filter(file => hexes.some(hex => file.endsWith(hex)));
  for (const file of files) await writeFile(join(blobs, file), '{"schemaVersion":2}');
  return files.length;
}

function layerOf({ content }: GeneratedImage): { readonly digest: string; readonly raw: Uint8Array } {
  const [digest, layer] = [...content].find(([, { mediaType }]) => mediaType.includes('layer')) ?? [];
  if (!digest || !layer) throw new Error('no layer');
  return { digest, raw: layer.raw };
}
