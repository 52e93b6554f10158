// The provenance of what a token serves: found by the digest of the image, and read as any artifact is.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { PROVENANCE_TYPE } from '../../src/augment/provenance.ts';
import type { ContentDescriptor } from '../../src/oci/descriptor.ts';
import { type Digest, digestOf, isDigest } from '../../src/oci/digest.ts';
import { makeTar, startApp, type TestApp } from '../support/app.ts';

const descriptorSchema = z.object({
  mediaType: z.string(),
  digest: z.string().refine(isDigest),
  size: z.number(),
  artifactType: z.string().optional(),
});
const artifactSchema = z.object({
  subject: descriptorSchema,
  config: descriptorSchema,
  layers: z.tuple([descriptorSchema]),
});
const layer = await makeTar('canary', 'content');

let app: TestApp;

beforeEach(async () => {
  app = await startApp({ config: { layers: { allowPrivateAddresses: true } } });
  app.registry.intercept((request, response) => {
    if (!request.url?.startsWith('/layer.tar')) return false;
    response.writeHead(200).end(layer);
    return true;
  });
});

afterEach(() => app.close());

test('is found for the index and each of its images, and all that it names is there', async () => {
  const source = app.putImage();
  const { name, targetDigest } = await app.submit(request());
  const root = await app.head(name, '1');
  const { manifests } = z.object({ manifests: z.array(descriptorSchema) }).parse(await readJson(name, root));
  const platforms: unknown[] = [];
  for (const subject of [root, ...manifests]) {
    const [found, ...others] = await referrers(name, subject.digest);
    expect([found?.artifactType, others]).toEqual([PROVENANCE_TYPE, []]);
    const artifact = artifactSchema.parse(await readJson(name, found ?? root));
    expect(artifact.subject).toEqual({ mediaType: subject.mediaType, digest: subject.digest, size: subject.size });
    expect(await readJson(name, artifact.config)).toEqual({});
    const told = z.object({ source: z.object({ name: z.string() }), platform: z.string().optional() });
    const { source: from, platform } = told.parse(await readJson(name, artifact.layers[0]));
    expect(from.name).toBe(app.image);
    platforms.push(platform);
  }
  expect(root.digest).toBe(targetDigest);
  expect(platforms).toEqual([undefined, 'linux/amd64', 'linux/arm64', 'linux/arm/v7']);
  expect(await referrers(name, source.root.digest)).toEqual([]);
});

test('is listed for its artifact type, and for no other', async () => {
  app.putImage({ index: false });
  const { name } = await app.submit(request());
  const { digest } = await app.head(name, '1');
  expect(await referrers(name, digest, PROVENANCE_TYPE)).toHaveLength(1);
  expect(await referrers(name, digest, 'application/vnd.other')).toEqual([]);
});

test('has the same digest after a restart', async () => {
  app.putImage();
  const { name } = await app.submit(request());
  const { digest } = await app.head(name, '1');
  const before = await referrers(name, digest);
  await app.restart();
  expect(await referrers(name, digest)).toEqual(before);
});

test('tells no address of a layer, and no secret in one', async () => {
  app.putImage({ index: false });
  const { name } = await app.submit(request());
  const [found] = await referrers(name, (await app.head(name, '1')).digest);
  if (!found) throw new Error('no provenance');
  const artifact = artifactSchema.parse(await readJson(name, found));
  const told = Buffer.concat([await app.read(name, found), await app.read(name, artifact.layers[0])]).toString();
  expect(told).toContain(digestOf(layer));
  expect(told).not.toMatch(/canary-signature|layer\.tar|http:/);
});

test('is not there for an image that the token leaves as it is', async () => {
  const { root } = app.putImage();
  const { name, targetDigest } = await app.submit({ containerConfig: {} });
  expect(targetDigest).toBe(root.digest);
  expect(await referrers(name, root.digest)).toEqual([]);
});

function request() {
  const location = `${app.registry.url}/layer.tar?sig=canary-signature`;
  return { containerConfig: { env: ['A=1'], layers: [{ location }] } };
}

async function readJson(name: string, descriptor: ContentDescriptor): Promise<unknown> {
  const raw = await app.read(name, descriptor);
  expect([digestOf(raw), raw.byteLength]).toEqual([descriptor.digest, descriptor.size]);
  return JSON.parse(Buffer.from(raw).toString());
}

async function referrers(name: string, digest: Digest, artifactType?: string) {
  const query = artifactType === undefined ? '' : `?${new URLSearchParams({ artifactType })}`;
  const response = await app.request(`/v2/${name}/referrers/${digest}${query}`);
  expect(response.status).toBe(200);
  expect(response.headers.get('oci-filters-applied')).toBe(artifactType === undefined ? null : 'artifactType');
  return z.object({ manifests: z.array(descriptorSchema) }).parse(await response.json()).manifests;
}
