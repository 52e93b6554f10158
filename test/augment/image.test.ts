// The rules for one image's manifest.
import { expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { generateImage } from '../support/images.ts';
import { createLayer, run } from './fixture.ts';

const oci = { seed: 3, platforms: ['linux/amd64'], layers: 2, family: 'oci', index: false } as const;
const docker = { ...oci, family: 'docker' } as const;
const BASE = 'org.opencontainers.image.base';

test.each([
  ['oci', 'none', 'application/vnd.oci.image.layer.v1.tar'],
  ['oci', 'gzip', 'application/vnd.oci.image.layer.v1.tar+gzip'],
  ['oci', 'zstd', 'application/vnd.oci.image.layer.v1.tar+zstd'],
  ['docker', 'none', 'application/vnd.docker.image.rootfs.diff.tar'],
  ['docker', 'gzip', 'application/vnd.docker.image.rootfs.diff.tar.gzip'],
] as const)('puts a layer on a manifest of %s packed as %s', async (family, compression, mediaType) => {
  const { layer } = createLayer('x', compression);
  const { rootJson } = await run(generateImage({ ...oci, family }), { layers: [layer] });
  expect(rootJson.layers.at(-1)).toEqual({ mediaType, digest: layer.digest, size: layer.size });
});

test('refuses a zstd layer on a Docker manifest', async () => {
  const pull = run(generateImage(docker), { layers: [createLayer('x', 'zstd').layer] });
  await expect(pull).rejects.toMatchObject({ code: 'MANIFEST_INVALID', message: expect.stringContaining('zstd') });
});

test('refuses an image whose diff_ids and layers differ in number', async () => {
  const pull = run(generateImage({ ...oci, manifest: { layers: [] } }), { env: { A: '1' } });
  await expect(pull).rejects.toMatchObject({ code: 'MANIFEST_INVALID', message: expect.stringContaining('diff_ids') });
});

test('names the base of an OCI image', async () => {
  const image = generateImage(oci);
  const { rootJson } = await run(image, { env: { A: '1' }, annotations: { mine: 'yes' } });
  const base = { [`${BASE}.name`]: 'example.org/app:1', [`${BASE}.digest`]: image.root.digest };
  expect(rootJson.annotations).toEqual({ ...base, mine: 'yes' });
});

test('keeps the base that an image names itself', async () => {
  const own = { [`${BASE}.name`]: 'alpine', [`${BASE}.digest`]: digestOf(new Uint8Array()) };
  const { rootJson } = await run(generateImage({ ...oci, manifest: { annotations: own } }), { env: { A: '1' } });
  expect(rootJson.annotations).toEqual(own);
});

test('gives a Docker manifest no annotations', async () => {
  const { rootJson } = await run(generateImage(docker), { env: { A: '1' }, annotations: { mine: 'yes' } });
  expect(rootJson).not.toHaveProperty('annotations');
});

test('keeps unknown fields and the order of keys', async () => {
  const image = generateImage({ ...oci, manifest: { annotations: {}, zeta: { b: 1, a: 2 } } });
  const before = (await run(image, {})).rootJson;
  const after = (await run(image, { env: { A: '1' } })).rootJson;
  expect(Object.keys(after)).toEqual(Object.keys(before));
  expect(JSON.stringify(after.zeta)).toBe('{"b":1,"a":2}');
});

test('keeps the config when only annotations are added', async () => {
  const image = generateImage(oci);
  const result = await run(image, { annotations: { mine: 'yes' } });
  expect(image.content.has(result.rootJson.config.digest)).toBe(true);
  expect(result.root.digest).not.toBe(image.root.digest);
});

test('drops a copy of the old config that its descriptor carries', async () => {
  const source = generateImage(oci);
  const { config } = (await run(source, {})).rootJson;
  const image = generateImage({ ...oci, manifest: { config: { ...config, data: 'e30=' } } });
  expect((await run(image, { env: { A: '1' } })).rootJson.config).not.toHaveProperty('data');
});
