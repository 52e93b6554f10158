// The cache in the whole service: its budget, what heals, what is pinned, and what its operator may ask.
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { cacheLineSchema } from '../../src/cache/admin/lines.ts';
import { type Digest, digestHex, digestOf, parseDigest } from '../../src/oci/digest.ts';
import { startApp, type TestApp, type TestAppOptions } from '../support/app.ts';

let app: TestApp;

afterEach(() => app?.close());

const pathOf = (digest: string) => {
  const hex = digestHex(parseDigest(digest));
  return join(app.directory, 'data', 'content', 'blobs', 'sha256', hex.slice(0, 2), hex);
};

/** A repository with a manifest of one layer of a size; `1` is its tag. */
function putImage(repository: string, seed: string, size = 10_000) {
  const layer = Buffer.alloc(size, seed);
  const config = Buffer.from(
    JSON.stringify({
      os: 'linux',
      architecture: 'amd64',
      rootfs: { type: 'layers', diff_ids: [digestOf(layer)] },
      seed,
    }),
  );
  const describe = (mediaType: string, raw: Buffer) => ({ mediaType, digest: digestOf(raw), size: raw.length });
  const types = 'application/vnd.oci.image.';
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: `${types}manifest.v1+json`,
      config: describe(`${types}config.v1+json`, config),
      layers: [describe(`${types}layer.v1.tar`, layer)],
    }),
  );
  app.registry.put(repository, [
    { mediaType: 'application/octet-stream', raw: layer },
    { mediaType: 'application/octet-stream', raw: config },
    { mediaType: `${types}manifest.v1+json`, raw: manifest, tags: ['1'] },
  ]);
  return { manifest: digestOf(manifest), config: digestOf(config), layer: digestOf(layer) };
}

async function get(path: string): Promise<Digest> {
  const response = await app.request(`/v2/lab/${path}`);
  const body = await response.bytes();
  if (response.status !== 200) throw new Error(`${path}: ${response.status} ${Buffer.from(body)}`);
  return digestOf(body);
}

async function pull(repository: string, { config, layer }: ReturnType<typeof putImage>): Promise<void> {
  await get(`${repository}/manifests/1`);
  for (const digest of [config, layer]) expect(await get(`${repository}/blobs/${digest}`)).toBe(digest);
  await expect
    .poll(() =>
      readFile(pathOf(layer)).then(
        () => true,
        () => false,
      ),
    )
    .toBe(true);
}

async function ask(method: string, path: string) {
  const response = await app.request(`/v1/cache/${path}`, { method });
  const text = await response.text();
  if (response.status !== 200) throw new Error(`${response.status} ${text}`);
  return text
    .trimEnd()
    .split('\n')
    .filter(Boolean)
    .map(line => cacheLineSchema.parse(JSON.parse(line)));
}

async function keptBytes(): Promise<number> {
  const folder = join(app.directory, 'data', 'content', 'blobs', 'sha256');
  const names = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = names.filter(entry => entry.isFile());
  const sizes = await Promise.all(
    files.map(async ({ parentPath, name }) => (await readFile(join(parentPath, name))).length),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

const open = async (cache: object = {}, options: TestAppOptions = {}) => {
  app = await startApp({ ...options, config: { cache, ...options.config } });
};

describe('the budget', () => {
  test('holds, with a line in the log for each run, and what went is fetched again by tag and by digest', async () => {
    await open({ maxSize: '50000B', water: { high: 1, low: 0.5 } });
    const images = Array.from({ length: 8 }, (_, i) => ({ name: `team/app${i}`, ...putImage(`team/app${i}`, `${i}`) }));
    for (const image of images) await pull(image.name, image);
    await expect.poll(keptBytes).toBeLessThanOrEqual(50_000);
    await expect.poll(() => app.log.join('')).toMatch(/"freedBytes":\d+.*evicted content from the cache/);
    const [first] = images;
    if (!first) throw new Error('no image');
    app.registry.requests.length = 0;
    await app.restart();
    await pull(first.name, first);
    expect(await get(`${first.name}/manifests/${first.manifest}`)).toBe(first.manifest);
    expect(app.registry.requests.some(({ url }) => url.includes(first.layer))).toBe(true);
  });

  test('leaves what a pinned repository links', async () => {
    await open({ maxSize: '50000B', water: { high: 1, low: 0.5 }, pin: ['lab/team/pinned'] });
    const pinned = putImage('team/pinned', 'pinned');
    await pull('team/pinned', pinned);
    for (let i = 0; i < 8; i += 1) await pull(`team/app${i}`, putImage(`team/app${i}`, `${i}`));
    await expect.poll(keptBytes).toBeLessThanOrEqual(50_000);
    for (const digest of Object.values(pinned)) await readFile(pathOf(digest));
  });

  test('takes the links along, so that what another repository brings again is that one’s alone', async () => {
    await open({ maxSize: '50000B', water: { high: 1, low: 0 } });
    const image = putImage('team/a', 'same');
    putImage('team/b', 'same');
    await pull('team/a', image);
    for (let i = 0; i < 5; i += 1) await pull(`team/app${i}`, putImage(`team/app${i}`, `${i}`)).catch(() => {});
    await expect.poll(() => ask('GET', 'content?repository=lab/team/a')).toEqual([]);
    await pull('team/b', image);
    app.registry.requests.length = 0;
    await get(`team/a/blobs/${image.layer}`);
    expect(app.registry.requests.map(({ method, url }) => `${method} ${url}`)).toEqual([
      `GET /v2/team/a/blobs/${image.layer}`,
    ]);
  });
});

describe.each(['manifest', 'config', 'layer'] as const)('a kept %s', kind => {
  const damages: [string, (digest: string) => Promise<void>][] = [
    ['lost', digest => rm(pathOf(digest))],
    ['cut short', async digest => writeFile(pathOf(digest), (await readFile(pathOf(digest))).subarray(1))],
    [
      'damaged in one bit',
      async digest => {
        const raw = await readFile(pathOf(digest));
        raw[5] = (raw[5] ?? 0) ^ 1;
        await writeFile(pathOf(digest), raw);
      },
    ],
  ];

  test.each(damages)('that is %s is fetched again, and never served as it is', async (_, damage) => {
    await open();
    const image = putImage('team/app', 'x');
    await pull('team/app', image);
    await kept(3);
    const digest = image[kind];
    await damage(digest);
    await app.restart();
    const path = `team/app/${kind === 'manifest' ? 'manifests' : 'blobs'}/${digest}`;
    // A layer is verified on its way: its first reader may be cut off, and asks again, as clients do.
    expect([digest, 'cut off']).toContain(await get(path).catch(() => 'cut off'));
    expect(await get(path)).toBe(digest);
    await expect.poll(async () => digestOf(await readFile(pathOf(digest)).catch(() => Buffer.of()))).toBe(digest);
  });
});

/** Until the files are kept that the pulls before have brought. */
async function kept(count: number): Promise<void> {
  await expect.poll(() => ask('GET', 'stat')).toMatchObject([{ count }]);
}

describe('the operator', () => {
  test('sees repositories, what one links, and how much there is', async () => {
    await open({ pin: ['lab/x'] });
    const image = putImage('team/app', 'x');
    await pull('team/app', image);
    await kept(3);
    await pull('team/app', image);
    expect(await ask('GET', 'content')).toMatchObject([
      { kind: 'repository', repository: 'lab/team/app', manifests: 1, blobs: 2, bytes: await keptBytes() },
    ]);
    const contents = await ask('GET', 'content?repository=lab/team/app');
    expect(contents.map(line => line.kind === 'content' && line.digest).sort()).toEqual(Object.values(image).sort());
    expect(await ask('GET', 'stat')).toMatchObject([
      { bytes: await keptBytes(), count: 3, isCounted: true, pin: ['lab/x'], misses: 3 },
    ]);
    expect(await ask('GET', 'content?repository=lab/team')).toEqual([]);
  });

  test('prunes by pattern: a dry run counts, and a run removes what no other repository links', async () => {
    await open();
    await pull('team/a', putImage('team/a', 'a'));
    const b = putImage('team/b', 'b');
    await pull('team/b', b);
    await kept(6);
    const dry = await ask('POST', 'prune?repositories=lab/team/a&dryRun=true');
    expect(dry.at(-1)).toMatchObject({ kind: 'pruned', dryRun: true, removed: { count: 3 }, left: { count: 3 } });
    expect((await ask('GET', 'content')).length).toBe(2);
    const wet = await ask('POST', 'prune?repositories=lab/team/a');
    expect(wet.at(-1)).toMatchObject({ kind: 'pruned', dryRun: false, removed: { count: 3 }, left: { count: 3 } });
    expect(await ask('GET', 'content')).toMatchObject([{ repository: 'lab/team/b' }]);
  });

  test('prunes to a size, and by age', async () => {
    let now = Date.now();
    await open({}, { now: () => new Date(now) });
    await pull('team/a', putImage('team/a', 'a'));
    await kept(3);
    now += 3_600_000;
    await pull('team/b', putImage('team/b', 'b'));
    await kept(6);
    const young = await ask('POST', 'prune?unusedMs=7200000');
    expect(young.at(-1)).toMatchObject({ removed: { count: 0 } });
    const old = await ask('POST', 'prune?unusedMs=1800000');
    expect(old.at(-1)).toMatchObject({ removed: { count: 3 }, left: { count: 3 } });
    const all = await ask('POST', 'prune?toBytes=0');
    expect(all.at(-1)).toMatchObject({ removed: { count: 3 }, left: { count: 0, bytes: 0 } });
    expect(await keptBytes()).toBe(0);
  });

  test('has all of it verified, and what is damaged goes', async () => {
    await open();
    const image = putImage('team/app', 'x');
    await pull('team/app', image);
    await kept(3);
    await writeFile(pathOf(image.layer), 'damaged');
    const lines = await ask('POST', 'verify?bytesPerSecond=100000000');
    expect(lines.filter(({ kind }) => kind === 'damaged')).toMatchObject([{ digest: image.layer }]);
    expect(lines.at(-1)).toMatchObject({ kind: 'verified', seen: { count: 3 }, damaged: { count: 1 } });
    await expect(readFile(pathOf(image.layer))).rejects.toThrow('ENOENT');
    expect(await get(`team/app/blobs/${image.layer}`)).toBe(image.layer);
  });

  test.each(['prune', 'prune?toBytes=-1', 'prune?toBytes=1&toBytes=2', 'prune?what=1', 'verify?bytesPerSecond=0'])(
    'that asks %s is refused with what is wrong',
    async path => {
      await open();
      const response = await app.request(`/v1/cache/${path}`, { method: 'POST' });
      expect(response.status).toBe(400);
      expect(await response.text()).toContain('invalid query');
    },
  );

  test.each([
    ['GET', 'stat'],
    ['GET', 'content'],
    ['POST', 'prune?toBytes=0'],
    ['POST', 'verify'],
  ])('needs a right to everything for %s %s', async (method, path) => {
    await open({}, { config: { access: { grants: [{ anyone: true, repositories: ['lab/**'], allow: ['pull'] }] } } });
    const response = await app.request(`/v1/cache/${path}`, { method });
    expect(response.status).toBe(401);
  });
});
