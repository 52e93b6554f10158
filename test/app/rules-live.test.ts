// Rules and layers that change while the whole app runs, as its clients and its operator see it.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { parseImageConfig } from '../../src/oci/image-config.ts';
import { makeTar, PLATFORMS, startApp, type TestApp } from '../support/app.ts';
import { generateImage } from '../support/images.ts';
import { checkImage } from '../support/oracle.ts';

const NAME = 'lab/library/app';
const ANY = { image: '**' };
const DAY = 86_400_000;

let app: TestApp;
let nowMs: number;

beforeEach(async () => {
  nowMs = Date.now();
  app = await startApp({ now: () => new Date(nowMs) });
  app.putImage();
});

afterEach(() => app.close());

const env = (value: string) => ({ name: 'env', match: ANY, env: { RULED: value } });
const layerRule = (layer: object) => ({ name: 'layer', match: ANY, layers: [layer] });
const place = (name: string) => join(app.directory, name);

async function change(...rules: readonly object[]): Promise<void> {
  await app.writeConfig({ rules });
  await app.reloadRules();
}

/** All images below the tag, with every digest, size and diffID checked. */
async function pull() {
  return checkImage(await app.head(NAME, '1'), descriptor => app.read(NAME, descriptor));
}

async function ruledBy(): Promise<readonly (string | undefined)[]> {
  return Promise.all(
    (await pull()).map(async ({ config }) => {
      const { Env } = parseImageConfig(await app.read(NAME, config)).config ?? {};
      return Env?.find(entry => entry.startsWith('RULED='));
    }),
  );
}

const topOf = async () => (await pull()).map(({ layers }) => layers.at(-1));
const logged = (text: string) => app.log.filter(line => line.includes(text));
const all = <T>(value: T) => PLATFORMS.map(() => value);

async function writeLayer(text: string, name = 'ca'): Promise<string> {
  await mkdir(place(`${name}/etc`), { recursive: true });
  await writeFile(place(`${name}/etc/ca.pem`), text);
  return place(name);
}

test('a start tells in the log which rules are active', async () => {
  expect(logged('rules are active')).toEqual([]);
  await app.configure({ rules: [env('1')] });
  expect(logged('rules are active')).toEqual([expect.stringContaining('"rules":["env"]')]);
});

test('rules come, change and go without a restart', async () => {
  const { digest } = await app.head(NAME, '1');
  await change(env('1'));
  expect(await ruledBy()).toEqual(all('RULED=1'));
  await change(env('2'));
  expect(await ruledBy()).toEqual(all('RULED=2'));
  await change();
  expect((await app.head(NAME, '1')).digest).toBe(digest);
});

test('nobody has to ask: a change is looked for by itself', async () => {
  await app.close();
  app = await startApp({ lookEveryMs: 10 });
  app.putImage();
  const path = await writeLayer('first');
  await app.writeConfig({ rules: [env('1')] });
  await expect.poll(ruledBy).toEqual(all('RULED=1'));
  await app.writeConfig({ rules: [layerRule({ directory: path })] });
  await expect.poll(topOf).toMatchObject(all({ mediaType: expect.stringMatching(/tar$/) }));
  const [before] = await topOf();
  await writeLayer('second');
  await expect.poll(async () => (await topOf())[0]?.digest).not.toBe(before?.digest);
});

test('a layer of a directory is a verified part of the image, by Range and HEAD too', async () => {
  await change(layerRule({ directory: await writeLayer('a certificate') }));
  const [layer] = await topOf();
  const path = `/v2/${NAME}/blobs/${layer?.digest}`;
  const head = await app.request(path, { method: 'HEAD' });
  expect([head.status, head.headers.get('content-length')]).toEqual([200, String(layer?.size)]);
  const part = await app.request(path, { headers: { Range: 'bytes=0-2' } });
  expect([part.status, await part.text()]).toEqual([206, 'etc']);
  const bytes = await (await app.request(path)).bytes();
  expect(digestOf(bytes)).toBe(layer?.digest);
});

test('what a layer was stays to be had by who has found it, after a change and a restart, for its time', async () => {
  const path = await writeLayer('first');
  const rules = [layerRule({ directory: path })];
  await app.configure({ rules });
  const root = await app.head(NAME, '1');
  const [layer] = await topOf();
  await writeLayer('second and longer');
  await app.reloadRules();
  expect((await topOf())[0]?.digest).not.toBe(layer?.digest);
  nowMs += 30 * DAY;
  await app.restart();
  const images = await checkImage(root, descriptor => app.read(NAME, descriptor));
  expect(images.map(({ layers }) => layers.at(-1)?.digest)).toEqual(all(layer?.digest));
});

test('a faulty state changes nothing, is reported once with its place, and no value of the file is reported', async () => {
  await change(env('1'));
  await app.writeConfig({ rules: [env('2'), layerRule({ directory: place('nowhere') })], tokens: { ttl: 'hunter2' } });
  await app.reloadRules();
  expect(await ruledBy()).toEqual(all('RULED=1'));
  expect(logged('the previous ones stay')).toEqual([expect.stringContaining('tokens.ttl: expected a duration')]);
  await app.writeConfig({ rules: [env('2'), layerRule({ directory: place('nowhere') })] });
  await app.reloadRules();
  expect(logged('the previous ones stay')[1]).toContain(`rules.1.layers.0: there is no ${place('nowhere')}`);
  await writeLayer('here now', 'nowhere');
  await app.reloadRules();
  expect(await ruledBy()).toEqual(all('RULED=2'));
  expect(app.log.join()).not.toContain('hunter2');
});

test('a file that was left empty takes no rule away', async () => {
  await change(env('1'));
  await writeFile(place('veneer.yaml'), '');
  await app.reloadRules();
  expect(await ruledBy()).toEqual(all('RULED=1'));
  expect(logged('the previous ones stay')).toEqual([expect.stringContaining('veneer.yaml is empty')]);
});

test('other keys that have changed are named, once, and stay as they were', async () => {
  await app.writeConfig({ rules: [env('1')], tokens: { ttl: '1h' }, cache: { maxSize: '1GiB' }, shutdownGrace: '1s' });
  await app.reloadRules();
  await app.reloadRules();
  expect(await ruledBy()).toEqual(all('RULED=1'));
  const lines = logged('restart to apply');
  expect(lines).toHaveLength(1);
  expect(JSON.parse(lines[0] ?? '').keys.toSorted()).toEqual(['cache', 'shutdownGrace', 'tokens']);
});

test('a start with faulty rules is refused with every fault', async () => {
  const rules = [layerRule({ directory: place('a') }), { ...layerRule({ file: place('b') }), name: 'other' }];
  await expect(app.configure({ rules })).rejects.toMatchObject({
    name: 'ConfigError',
    faults: [`rules.0.layers.0: there is no ${place('a')}`, `rules.1.layers.0: there is no ${place('b')}`],
  });
  app = await startApp();
});

test('a layer that was damaged on the disk reaches nobody whole, and is read again', async () => {
  await app.close();
  app = await startApp({ lookEveryMs: 10 });
  app.putImage();
  await app.configure({ rules: [layerRule({ directory: await writeLayer('a certificate') })] });
  const index = JSON.parse(Buffer.from(await app.read(NAME, await app.head(NAME, '1'))).toString());
  const manifest = JSON.parse(Buffer.from(await app.read(NAME, index.manifests[0])).toString());
  const { digest, size } = manifest.layers.at(-1);
  const hex = digest.slice('sha256:'.length);
  await writeFile(join(place('data/rules/blobs/sha256'), hex.slice(0, 2), hex), Buffer.alloc(size));
  const path = `/v2/${NAME}/blobs/${digest}`;
  expect((await app.request(path)).status).toBe(503);
  await expect.poll(async () => digestOf(await (await app.request(path)).bytes())).toBe(digest);
});

test('layers of an address, a registry and an image are put on top, each for its platform', async () => {
  const tools = putTools();
  const raws = [await makeTar('etc/a', 'from a registry'), await makeTar('etc/b', 'from an address')];
  const mediaType = 'application/vnd.oci.image.layer.v1.tar';
  const [blob, address] = app.registry.put(
    'org/blobs',
    raws.map(raw => ({ mediaType, raw })),
  );
  const layers = [
    { location: `oci://lab/org/blobs@${blob}`, platforms: ['linux/amd64'] },
    { url: `${app.registry.url}/v2/org/blobs/blobs/${address}`, digest: address, platforms: ['linux/arm64'] },
    { image: `${app.registry.host}/org/tools:1` },
  ];
  await app.configure({ rules: [{ name: 'remote', match: ANY, layers }], layers: { allowPrivateAddresses: true } });
  const added = (await pull()).map(image => image.layers.slice(2).map(layer => layer.digest));
  expect(added).toEqual([[blob, tools[0]], [address, tools[1]], [tools[2]]]);
});

/** An image with one layer for each platform; the digests of the layers, in their order. */
function putTools(): readonly string[] {
  const { root, content } = generateImage({ seed: 7, layers: 1, platforms: PLATFORMS, family: 'oci' });
  const contents = [...content].map(([digest, each]) => (digest === root.digest ? { ...each, tags: ['1'] } : each));
  app.registry.put('org/tools', contents);
  const read = (digest: Digest) => JSON.parse(Buffer.from(content.get(digest)?.raw ?? []).toString());
  return read(root.digest).manifests.map((entry: { digest: Digest }) => read(entry.digest).layers[0].digest);
}

test('a registry of layers that is down stops no start, but pulls that need it, and other images go on', async () => {
  const remote = { ...layerRule({ image: `${app.registry.host}/org/missing:1` }), match: { image: 'lab/library/*' } };
  await app.configure({ rules: [remote] });
  const response = await app.request(`/v2/${NAME}/manifests/1`);
  expect(response.status).toBe(503);
  expect(await response.text()).toMatch(/the rule \\"layer\\" cannot be applied now: layers\[0\]: .*org\/missing/);
  expect((await app.request(`/v2/${app.registry.host}/library/app/manifests/1`)).status).toBe(200);
});
