// The rules for one image's manifest.
import { expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { MAX_MANIFEST_BYTES } from '../../src/oci/manifest.ts';
import { type GeneratedImage, generateImage } from '../support/images.ts';
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

test('takes a working directory of Windows on an image of Windows alone', async () => {
  const workingDir = 'C:\\app';
  const { config } = await run(generateImage({ ...oci, platforms: ['windows/amd64'] }), { workingDir });
  expect(config().config.WorkingDir).toBe(workingDir);
  await expect(run(generateImage(oci), { workingDir })).rejects.toMatchObject({
    code: 'MANIFEST_INVALID',
    message: expect.stringContaining('workingDir: C:\\app is not an absolute path on linux/amd64'),
  });
});

test('refuses more layers than can be mounted, but takes them where it adds none', async () => {
  const { layer } = createLayer('x', 'gzip');
  const image = generateImage({ ...oci, layers: 499 });
  expect((await run(image, { layers: [layer] })).rootJson.layers).toHaveLength(500);
  const pull = run(image, { layers: [layer, layer] });
  await expect(pull).rejects.toMatchObject({ code: 'MANIFEST_INVALID', message: expect.stringContaining('500') });
  const full = generateImage({ ...oci, layers: 501 });
  expect((await run(full, { env: { A: '1' } })).rootJson.layers).toHaveLength(501);
});

test.each([
  ['config', { labels: { big: 'x'.repeat(MAX_MANIFEST_BYTES) } }],
  ['manifest', { annotations: { big: 'x'.repeat(MAX_MANIFEST_BYTES) } }],
])('refuses to make a %s that is larger than the limit', async (_, input) => {
  const pull = run(generateImage(oci), input);
  await expect(pull).rejects.toMatchObject({ code: 'MANIFEST_INVALID', message: expect.stringContaining('limit') });
});

test.each(['application/octet-stream', 'application/json', 'text/html', ''])(
  'rewrites an image whose config has the type "%s": docker runs it',
  async mediaType => {
    const { config } = (await run(generateImage(docker), {})).rootJson;
    const image = generateImage({ ...docker, manifest: { config: { ...config, mediaType } } });
    const { images, config: made } = await run(image, { env: { A: '1' } });
    expect(images[0]?.target).not.toBe(image.root.digest);
    expect(made().config.Env).toContain('A=1');
  },
);

test.each<[string, (text: string) => string]>([
  ['names an artifactType', text => text.replace('"config"', '"artifactType": "text/x", "config"')],
  ['has layers of no type', text => text.replaceAll(/"mediaType": "[^"]*image\.layer[^"]*"/g, '"mediaType": ""')],
])('rewrites an image that %s: some client runs it', async (_, edit) => {
  const image = editRoot(generateImage(oci), edit);
  const { images } = await run(image, { env: { A: '1' } });
  expect(images[0]?.target).not.toBe(image.root.digest);
});

test('rewrites an image that runs nowhere by its config', async () => {
  const { images } = await run(generateImage({ ...oci, platforms: ['unknown/unknown'] }), { env: { A: '1' } });
  expect(images[0]?.target).not.toBe(images[0]?.source);
});

test.each<[string, (text: string) => string]>([
  ['names layers twice', text => text.replace('"layers"', '"layers": [], "layers"')],
  ['names layers in another case', text => text.replace('"layers"', '"Layers": [], "layers"')],
  ['names the type of its config in another case', text => text.replace('"config": {', '"config": {"MediaType":"x",')],
])('refuses a manifest that %s, an artifact too', async (_, edit) => {
  const helm = { mediaType: 'application/vnd.cncf.helm.config.v1+json', digest: digestOf(new Uint8Array()), size: 0 };
  for (const manifest of [{}, { config: helm }]) {
    const pull = run(editRoot(generateImage({ ...oci, manifest }), edit), { env: { A: '1' } });
    await expect(pull).rejects.toMatchObject({ code: 'MANIFEST_INVALID' });
  }
});

test('keeps the very characters of all that nobody named', async () => {
  const kept = '"x-kept":{"2":1.0,"1":9007199254740993,"__proto__":{"a":1e400}},"schemaVersion": 2';
  const image = editRoot(generateImage(oci), text => text.replace('"schemaVersion": 2', kept));
  const { root, read } = await run(image, { env: { A: '1' } });
  expect(Buffer.from(read(root)).toString()).toContain(kept.replace(': 2', ':2'));
});

test('tells the base of an OCI image by its digest alone', async () => {
  const image = generateImage(oci);
  const { rootJson } = await run(image, { env: { A: '1' }, annotations: { mine: 'yes' } });
  expect(rootJson.annotations).toEqual({ [`${BASE}.digest`]: image.root.digest, mine: 'yes' });
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

/** The image with other text as its root. */
function editRoot({ root, content }: GeneratedImage, edit: (text: string) => string): GeneratedImage {
  const before = Buffer.from(content.get(root.digest)?.raw ?? []).toString();
  const raw = Buffer.from(edit(before));
  expect(raw.toString()).not.toBe(before);
  const { mediaType } = root;
  const digest = digestOf(raw);
  return {
    root: { mediaType, digest, size: raw.byteLength },
    content: new Map([...content, [digest, { mediaType, raw }]]),
  };
}
