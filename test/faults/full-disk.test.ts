// Veneer on a small disk that is full, or runs full: pulls go on, nothing broken is kept, and what comes when there is room again is.
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { listContent } from '../../src/content/inventory.ts';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { isIndexType, isManifestType } from '../../src/oci/media-type.ts';
import { waitUntil } from '../clients/support/process.ts';
import { makeIndex } from '../conformance/documents.ts';
import { dataUrl, makeLayer } from '../support/app.ts';
import { generateImage } from '../support/images.ts';
import { checkImage } from '../support/oracle.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { findNoSmallDisk, type SmallDisk, startOnSmallDisk } from './small-disk.ts';

const MIB = 2 ** 20;
const DISK_BYTES = 160 * MIB;
const NAME = 'library/app';

const missing = findNoSmallDisk();

describe.skipIf(missing)(`a small disk${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
  let folder: string;
  let registry: TestRegistry;
  let disk: SmallDisk;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'veneer-small-'));
    registry = await startRegistry();
    const upstreams = { lab: { url: registry.url } };
    disk = await startOnSmallDisk(folder, DISK_BYTES, { upstreams, cache: { maxSize: 'none', tagFreshness: '0s' } });
  }, 60_000);

  afterEach(async () => {
    await disk?.kill();
    await registry.close();
    await rm(folder, { recursive: true });
  });

  test('that is full: images pass through, and nothing of them is kept; with room again, what is pulled is kept', async () => {
    const layer = putBlob(20 * MIB, 'a layer');
    const before = putImage(3);
    await disk.fill();
    for (let round = 0; round < 2; round += 1) {
      expect(digestOf(await read('manifests', '1'))).toBe(before.root.digest);
      await checkImage(before.root, readDescriptor);
      expect(await pull(layer)).toBe(layer);
    }
    expect(await inventory()).toEqual([]);
    expect(await readIngest()).toEqual([]);

    await disk.free();
    const { root, content } = putImage(4);
    const pullAll = async () => {
      await checkImage(root, readDescriptor);
      expect(await pull(layer)).toBe(layer);
    };
    expect(digestOf(await read('manifests', '1'))).toBe(root.digest);
    await pullAll();
    await waitUntil(async () => expect(await inventory()).toEqual([...content.keys(), layer].sort()));
    registry.requests.length = 0;
    await pullAll();
    expect(registry.requests).toEqual([]);
  });

  test('that the cache itself has filled: each pull continues, the longest unused goes, and what comes after it is kept', async () => {
    for (let at = 0; at < 8; at += 1) {
      const layer = putBlob(20 * MIB, `layer ${at}`);
      // The first pull without room makes it for the next.
      await waitUntil(async () => {
        registry.requests.length = 0;
        expect(await pull(layer)).toBe(layer);
        expect(registry.requests).toEqual([]);
      });
    }
    expect(disk.readOutput()).toMatch(/"reason":"full disk".*evicted content from the cache/);
    expect(await inventory()).not.toContain(digestOf(Buffer.alloc(20 * MIB, 'layer 0 ')));
    expect(await readIngest()).toEqual([]);
  });

  test.each([1, 3, 8, 40])('that has half of the room that a layer of %i MiB needs: it passes through', async mib => {
    const layer = putBlob(mib * MIB, 'a layer');
    await disk.fill((mib * MIB) / 2);
    expect(await pull(layer)).toBe(layer);
    expect(await inventory()).toEqual([]);
    expect(await readIngest()).toEqual([]);
  });

  test('that has half of the room of a layer, whose upstream does not say how long it is: it is right all the same', async () => {
    const raw = Buffer.alloc(20 * MIB, 'who knows how long ');
    const layer = digestOf(raw);
    registry.intercept(({ method }, response) => {
      if (method === 'GET') response.writeHead(200).write(raw);
      return Boolean(response.end());
    });
    await disk.fill(10 * MIB);
    for (let round = 0; round < 2; round += 1) expect(await pull(layer)).toBe(layer);
    expect(await inventory()).toEqual([]);
    await disk.free();
    expect(await pull(layer)).toBe(layer);
    await waitUntil(async () => expect(await inventory()).toEqual([layer]));
  });

  test('that runs full while a layer arrives: its reader gets the rest, and nothing of it is kept', async () => {
    const layer = putBlob(20 * MIB, 'half of it comes, and');
    const { finish, half } = holdTransfer(Buffer.alloc(20 * MIB, 'half of it comes, and '));
    const first = pull(layer);
    await half;
    await waitUntil(async () => expect(await readIngest()).toHaveLength(1));
    await disk.fill();
    finish();
    for (const each of [first, pull(layer)]) expect(await each).toBe(layer);
    expect(await inventory()).toEqual([]);
    expect(await readIngest()).toEqual([]);
  });

  /** The next transfer stops half way until it is told to finish. */
  function holdTransfer(raw: Buffer) {
    const half = Promise.withResolvers<void>();
    const rest = Promise.withResolvers<void>();
    registry.intercept(({ method }, response) => {
      if (method !== 'GET') return false;
      registry.intercept();
      response.writeHead(200, { 'content-length': raw.length }).write(raw.subarray(0, raw.length / 2));
      half.resolve();
      void rest.promise.then(() => response.end(raw.subarray(raw.length / 2)));
      return true;
    });
    return { half: half.promise, finish: rest.resolve };
  }

  function putImage(seed: number) {
    const image = generateImage({ seed, platforms: ['linux/amd64', 'linux/arm64'], layers: 2, family: 'oci' });
    const tags = (digest: string) => (digest === image.root.digest ? { tags: ['1'] } : {});
    registry.put(
      NAME,
      [...image.content].map(([digest, content]) => ({ ...content, ...tags(digest) })),
    );
    return image;
  }

  function putBlob(size: number, seed: string): Digest {
    const raw = Buffer.alloc(size, `${seed} `);
    registry.put(NAME, [{ mediaType: 'application/octet-stream', raw }]);
    return digestOf(raw);
  }

  async function read(kind: string, reference: string): Promise<Uint8Array> {
    const response = await fetch(`http://${disk.address}/v2/lab/${NAME}/${kind}/${reference}`);
    if (response.status !== 200) throw new Error(`${reference}: ${response.status} ${await response.text()}`);
    return response.bytes();
  }

  const readDescriptor = ({ mediaType, digest }: { readonly mediaType: string; readonly digest: Digest }) =>
    read(isIndexType(mediaType) || isManifestType(mediaType) ? 'manifests' : 'blobs', digest);
  const pull = async (digest: Digest) => digestOf(await read('blobs', digest));
  const readIngest = () => readdir(join(disk.dataDir, 'content', 'ingest'));
  const inventory = async () => (await Array.fromAsync(listContent(join(disk.dataDir, 'content')))).sort();
});

describe.skipIf(missing)(`what is asked of a full disk${missing ? ` (${missing})` : ''}`, { timeout: 120_000 }, () => {
  let folder: string;
  let registry: TestRegistry;
  let disk: SmallDisk;

  const REPOSITORY = '/v2/local/team/app';
  const blob = Buffer.from('pushed while there was room');
  const index = makeIndex([]);
  const OCTETS = { 'Content-Type': 'application/octet-stream' };
  const containerFile = Buffer.from('FROM lab/library/app:1\nENV BUILT=yes\n').toString('base64');

  const setUp = async (config: object = {}) => {
    folder = await mkdtemp(join(tmpdir(), 'veneer-full-'));
    registry = await startRegistry();
    const image = generateImage({ seed: 3, platforms: ['linux/amd64'], layers: 2, family: 'oci' });
    const tags = (digest: string) => (digest === image.root.digest ? { tags: ['1'] } : {});
    registry.put(
      NAME,
      [...image.content].map(([digest, content]) => ({ ...content, ...tags(digest) })),
    );
    await mkdir(join(folder, 'layer'));
    await writeFile(join(folder, 'layer', 'motd'), 'hello');
    disk = await startOnSmallDisk(folder, 96 * MIB, { ...settings(), ...config });
  };

  const settings = () => ({
    upstreams: { lab: { url: registry.url } },
    builds: { backends: ['embedded'] },
    rules: [{ name: 'motd', match: { image: 'lab/ruled/**' }, layers: [{ directory: join(folder, 'layer') }] }],
    hosted: {
      quotas: [
        { repositories: ['local/**'], size: '50MiB' },
        { repositories: ['local/team/**'], size: '50MiB' },
      ],
    },
  });

  afterEach(async () => {
    await disk?.kill();
    await registry.close();
    await rm(folder, { recursive: true });
  });

  async function send(
    method: string,
    path: string,
    { headers = {}, body }: { readonly headers?: object; readonly body?: unknown } = {},
  ) {
    const isJson = body !== undefined && !(body instanceof Uint8Array);
    const response = await fetch(`http://${disk.address}${path}`, {
      method,
      headers: { ...(isJson && { 'Content-Type': 'application/json' }), ...headers },
      ...(body !== undefined && { body: isJson ? JSON.stringify(body) : Buffer.from(body) }),
    });
    return { status: response.status, headers: response.headers, text: await response.text() };
  }

  const submit = (body: object = {}) =>
    send('POST', '/v1alpha2/container', { body: { containerImage: 'lab/library/app:1', ...body } });
  const statusOf = async (path: string, method = 'GET') => (await send(method, path)).status;
  const pushTag = (tag: string) =>
    send('PUT', `${REPOSITORY}/manifests/${tag}`, { headers: { 'Content-Type': index.mediaType }, body: index.raw });
  const startUpload = () => send('POST', `${REPOSITORY}/blobs/uploads/`);
  const finishUpload = (path: string, body: Buffer) =>
    send('PUT', `${path}?digest=${digestOf(body)}`, { headers: OCTETS, body });
  const pathOf = ({ headers }: { readonly headers: Headers }) =>
    headers.get('location')?.replace(/^.*?\/v2/, '/v2') ?? '';

  test('is a 507 with the reason, or done; nothing is a 500; and with room again all is as ever', async () => {
    await setUp();
    const put = await finishUpload(pathOf(await startUpload()), blob);
    expect(put.status).toBe(201);
    expect((await pushTag('kept')).status).toBe(201);
    expect((await pushTag('gone')).status).toBe(201);
    const token = JSON.parse((await submit({ containerConfig: { env: ['A=b'] } })).text);
    const targetPath = `/v2/${token.targetImage.replace(/^[^/]*\//, '').replace(/:([^:]*)$/, '/manifests/$1')}`;
    const accessToken = (await disk.veneer('token', 'create', '--name', 'ci', '--pull', '**')).trim();
    expect(accessToken).toMatch(/^vnr_/);
    const ids = (await disk.veneer('token', 'list')).match(/^[0-9a-z]+(?= .*ci)/m);
    const upload = pathOf(await startUpload());
    await disk.fill();

    const layer = { location: dataUrl(await makeLayer('motd', 'hello')) };
    const asked: [string, Awaited<ReturnType<typeof send>>][] = [
      ['a token', await submit({ containerConfig: { env: ['A=c'] } })],
      ['a token with a layer', await submit({ containerConfig: { layers: [layer] } })],
      ['a build', await submit({ containerImage: undefined, containerFile })],
      ['a build with a context', await submit({ containerImage: undefined, containerFile, buildContext: layer })],
      ['a frozen image', await submit({ freeze: true, containerConfig: { env: ['A=d'] } })],
      ['a mirror', await submit({ mirror: true, buildRepository: 'local/mirrors' })],
      // It begins in memory, and is refused its bytes.
      ['an upload', await finishUpload(pathOf(await startUpload()), Buffer.from('o'))],
      ['a chunk', await send('PATCH', upload, { headers: OCTETS, body: Buffer.alloc(8 * MIB, 'x') })],
      [
        'a blob at once',
        await send('POST', `${REPOSITORY}/blobs/uploads/?digest=${digestOf(Buffer.from('n'))}`, {
          headers: OCTETS,
          body: Buffer.from('n'),
        }),
      ],
      ['a mount', await send('POST', `/v2/local/other/blobs/uploads/?mount=${digestOf(blob)}&from=local/team/app`)],
      ['a manifest', await pushTag('new')],
    ];
    for (const [name, { status, text }] of asked) {
      const { message = JSON.parse(text).errors[0].message } = JSON.parse(text);
      expect([name, status, message]).toEqual([name, 507, expect.stringMatching(/disk|room/)]);
    }
    await expect(disk.veneer('token', 'create', '--name', 'more', '--pull', '**')).rejects.toThrow(
      /^the disk of the record store is full: free some space/m,
    );

    expect(await statusOf('/v2/lab/library/app/manifests/1')).toBe(200);
    expect(await statusOf(targetPath)).toBe(200);
    expect(await statusOf(`${REPOSITORY}/manifests/kept`)).toBe(200);
    expect(await statusOf(`${REPOSITORY}/blobs/${digestOf(blob)}`)).toBe(200);
    const inspected = await send('POST', '/v1alpha1/inspect', { body: { containerImage: 'lab/library/app:1' } });
    expect(inspected.status).toBe(200);
    const ready = await send('GET', '/health/ready');
    expect([ready.status, ready.text]).toEqual([
      200,
      expect.stringContaining('the disk of the data directory is full'),
    ]);

    // What makes room is done.
    expect(await statusOf(`${REPOSITORY}/manifests/gone`, 'DELETE')).toBe(202);
    expect(await statusOf(`${REPOSITORY}/blobs/${digestOf(blob)}`, 'DELETE')).toBe(202);
    expect(await statusOf(`/container-token/${token.requestId}`, 'DELETE')).toBe(200);
    expect(await statusOf(targetPath)).toBe(404);
    await disk.veneer('token', 'revoke', `${ids}`);
    expect((await send('POST', '/v1/cache/prune?toBytes=0')).text).toMatch(/"pruned"/);
    expect((await send('POST', '/v1/hosted/collect')).text).toMatch(/"report"/);

    await disk.free();
    expect((await submit({ containerConfig: { env: ['A=c'] } })).status).toBe(200);
    expect((await pushTag('new')).status).toBe(201);
    await waitUntil(async () =>
      expect(JSON.parse((await send('GET', '/health/ready')).text)).toEqual({ status: 'UP' }),
    );
    expect(disk.readOutput()).not.toMatch(/"status":500/);
  });

  test.each<[string, object, object]>([
    ['nothing more', {}, {}],
    ['other quotas than before', {}, { hosted: { quotas: [{ repositories: ['local/team/**'], size: '40MiB' }] } }],
    [
      'access and webhooks',
      {
        access: { grants: [{ anyone: true, repositories: ['**'], allow: ['pull', 'push', 'delete'] }] },
        events: { endpoints: [{ name: 'hook', url: 'http://127.0.0.1:1/' }] },
      },
      {},
    ],
  ])('lets it start again and again, with %s, and serves what is there', async (_, config, later) => {
    await setUp(config);
    expect((await pushTag('kept')).status).toBe(201);
    expect(await statusOf('/v2/lab/library/app/manifests/1')).toBe(200);
    await disk.configure({ ...settings(), ...config, ...later });
    for (const signal of ['SIGKILL', 'SIGTERM', 'SIGTERM'] as const) {
      await disk.fill();
      await disk.restart(signal, disk.fill);
      expect(await statusOf(`${REPOSITORY}/manifests/kept`)).toBe(200);
      const pulled = await send('GET', '/v2/lab/library/app/manifests/1');
      expect([pulled.status, pulled.text]).toEqual([200, expect.stringContaining('schemaVersion')]);
    }
    // Less may find its place in the write-ahead log as it is.
    const large = Buffer.alloc(300_000, 'more than there is room for ');
    const options = { headers: OCTETS, body: large };
    expect((await send('POST', `${REPOSITORY}/blobs/uploads/?digest=${digestOf(large)}`, options)).status).toBe(507);
    expect(await statusOf(`${REPOSITORY}/manifests/kept`, 'DELETE')).toBe(202);
    await disk.free();
    expect((await pushTag('new')).status).toBe(201);
  });

  test('lets it start with the layers of rules that are there, and without those that are not, which it says', async () => {
    await setUp();
    registry.put('ruled/app', [{ ...index, tags: ['1'] }]);
    await disk.fill();
    await disk.restart('SIGTERM', disk.fill);
    const told = async () => JSON.parse((await send('GET', '/v1/rules')).text).faults;
    expect(await told()).toEqual([]);

    await writeFile(join(folder, 'layer', 'motd'), Buffer.alloc(100_000, 'another '));
    await disk.fill();
    await disk.restart('SIGKILL', disk.fill);
    expect(await told()).toEqual([expect.stringContaining('no disk space for')]);
    expect(disk.readOutput()).toContain('layers of rules are not available yet');
    const refused = await send('GET', '/v2/lab/ruled/app/manifests/1');
    expect([refused.status, refused.text]).toEqual([
      503,
      expect.stringMatching(/the rule .*motd.* cannot be applied now/),
    ]);
    expect(await statusOf('/v2/lab/library/app/manifests/1')).toBe(200);

    await disk.free();
    await waitUntil(async () => expect(await told()).toEqual([]));
    expect(await statusOf('/v2/lab/ruled/app/manifests/1')).toBe(200);
  });
});
