// Veneer with its content in a real S3 service, and records in a file: what clients see of it, also without what is on the disk, and while the
// service is away.
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { digestOf } from '../../src/oci/digest.ts';
import { generateImage } from '../support/images.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { makeTar, submitAugmentation } from './support/augment.ts';
import { clientPath, findMissingTools } from './support/clients.ts';
import {
  OBJECT_STORE_COMMANDS,
  OBJECT_STORE_KEY,
  type ObjectServer,
  startObjectStore,
} from './support/object-store.ts';
import { checkUrl, findFreePort, type Killable, run, startProcess, waitUntil } from './support/process.ts';

const Layers = z.object({ layers: z.array(z.object({ digest: z.string() })) });
/** Of clients that the bucket is near to. */
const NEAR = '10.1.2.3';
const missing = findMissingTools([...OBJECT_STORE_COMMANDS, 'crane', 'oras']);

describe.skipIf(missing)(`a service with content in S3${missing ? ` (${missing})` : ''}`, { timeout: 180_000 }, () => {
  let store: ObjectServer;
  let upstream: TestRegistry;
  let folder: string;
  let address: string;
  let image: string;
  let veneer: Killable;
  const large = randomBytes(20_000_000);

  beforeAll(async () => {
    [store, upstream] = await Promise.all([startObjectStore(), startRegistry()]);
    folder = await mkdtemp(join(tmpdir(), 'veneer-s3-service-'));
    address = `127.0.0.1:${await findFreePort()}`;
    image = `${address}/local/app`;
    await writeFile(join(folder, 'layer.tar'), await makeTar());
    await writeFile(join(folder, 'large'), large);
    await mkdir(join(folder, 'layer/opt'), { recursive: true });
    await writeFile(join(folder, 'layer/opt/note'), 'a note\n');
    await configure('veneer');
    veneer = await start();
    await crane('append', '--oci-empty-base', '-f', join(folder, 'layer.tar'), '-t', `${image}:v1`);
    await crane('mutate', '--set-platform', 'linux/amd64', '-t', `${address}/local/ruled:v1`, `${image}:v1`);
    await oras('push', '--plain-http', `${image}:file`, 'large');
  }, 120_000);

  afterAll(async () => {
    await veneer?.stop();
    await store?.close();
    await upstream?.close();
    if (folder) await rm(folder, { recursive: true });
  }, 60_000);

  async function configure(name: string, s3: object = {}, workers = 1): Promise<string> {
    const redirect = { networks: [NEAR], minSize: '1MiB' };
    const settings = {
      ...{ dataDir: join(folder, 'data'), workers },
      content: {
        s3: { endpoint: store.endpoint, bucket: store.bucket, prefix: 'fleet/', upstreams: true, redirect, ...s3 },
      },
      trustedProxies: { addresses: ['127.0.0.1'] },
      upstreams: { lab: { url: upstream.url } },
      hosted: { collect: { every: 'off', grace: '0s', untagged: '0s' } },
      builds: { backends: ['embedded'] },
      rules: [{ name: 'notes', match: { image: 'local/ruled*' }, layers: [{ directory: join(folder, 'layer') }] }],
    };
    const path = join(folder, `${name}.yaml`);
    await writeFile(path, JSON.stringify(settings));
    return path;
  }

  const start = () =>
    startProcess(process.execPath, ['src/main.ts', '--config', join(folder, 'veneer.yaml'), '--listen', address], {
      env: OBJECT_STORE_KEY,
      checkReady: () => checkUrl(`http://${address}/health/live`),
    });

  /** Of the machine only records remain. */
  async function restartWithoutContent(): Promise<void> {
    await veneer.stop();
    for (const kind of ['content', 'hosted', 'tokens', 'rules', 'builds'])
      await rm(join(folder, 'data', kind), { recursive: true, force: true });
    veneer = await start();
  }

  const veneerCommand = (...args: readonly string[]) =>
    run(process.execPath, ['src/main.ts', ...args, '--config', join(folder, 'veneer.yaml'), '--listen', address], {
      env: OBJECT_STORE_KEY,
    });
  const crane = (...args: readonly string[]) => run(clientPath('crane'), args);
  const oras = (...args: readonly string[]) => run(clientPath('oras'), args, { cwd: folder });
  const send = (path: string, init: RequestInit = {}) => fetch(`http://${address}${path}`, init);
  const readiness = () => send('/health/ready').then(async response => [response.status, await response.json()]);
  const isUp = () => waitUntil(async () => expect(await readiness()).toMatchObject([200, { status: 'UP' }]));

  /** Parts of objects that are being sent. */
  async function listUploads(): Promise<readonly string[]> {
    const entries = await readdir(join(store.folder, '.sgwtmp'), { recursive: true, withFileTypes: true });
    return entries.filter(entry => entry.isFile()).map(({ name }) => name);
  }

  async function stored(kind: string): Promise<readonly string[]> {
    const blobs = join(store.folder, 'fleet', kind, 'blobs');
    if (!existsSync(blobs)) return [];
    const entries = await readdir(blobs, { recursive: true, withFileTypes: true });
    return entries.filter(entry => entry.isFile()).map(({ name }) => name);
  }

  test('has what crane and oras push in the bucket, and serves it when nothing of it is on the disk', async () => {
    const digest = await crane('digest', `${image}:v1`);
    expect(await stored('hosted')).toContain(digest.slice('sha256:'.length));
    expect(await stored('hosted')).toContain(digestOf(large).slice('sha256:'.length));
    expect(existsSync(join(folder, 'data/hosted/blobs'))).toBe(false);
    await restartWithoutContent();
    await crane('validate', '--remote', `${image}:v1`);
    await crane('validate', '--remote', `${image}@${digest}`);
    await mkdir(join(folder, 'pulled'));
    await oras('pull', '--plain-http', '--output', 'pulled', `${image}:file`);
    expect(await run('cmp', [join(folder, 'large'), join(folder, 'pulled/large')])).toBe('');
    // What was pulled is in the cache now.
    expect(existsSync(join(folder, 'data/content/blobs/sha256', digest.slice(7, 9), digest.slice(7)))).toBe(true);
  });

  test('has layers of requests there, and serves the images that have them when nothing is on the disk', async () => {
    await crane('append', '--oci-empty-base', '-f', join(folder, 'layer.tar'), '-t', `${image}:plain`);
    await crane('mutate', '--set-platform', 'linux/amd64', '-t', `${image}:base`, `${image}:plain`);
    const { targetImage } = await submitAugmentation(address, `${image}:base`);
    expect(await stored('tokens')).toHaveLength(1);
    await restartWithoutContent();
    await crane('validate', '--remote', targetImage);
  });

  test('has layers of rules there, and serves them when nothing is on the disk', async () => {
    const digest = await crane('digest', `${address}/local/ruled:v1`);
    expect((await stored('rules')).length).toBeGreaterThan(0);
    await restartWithoutContent();
    const { layers } = Layers.parse(JSON.parse(await crane('manifest', `${address}/local/ruled@${digest}`)));
    expect(layers).toHaveLength(2);
    for (const layer of layers) {
      const blob = await send(`/v2/local/ruled/blobs/${layer.digest}`);
      expect(digestOf(await blob.bytes())).toBe(layer.digest);
    }
  });

  test('has what upstreams sent there, serves it when neither they nor the disk have it, and fetches what it has lost', async () => {
    const { root, content } = generateImage({ seed: 1, platforms: ['linux/amd64'], layers: 2, family: 'oci' });
    const contents = [...content].map(([digest, each]) => ({
      ...each,
      ...(digest === root.digest && { tags: ['1'] }),
    }));
    upstream.put('app', contents);
    const pull = async (reference: string) => {
      const layout = await mkdtemp(join(folder, 'layout-'));
      await crane('pull', '--format', 'oci', `${address}/lab/app${reference}`, layout);
    };
    await pull(':1');
    const linked = () => send('/v1/cache/content?repository=lab/app').then(response => response.text());
    const digests = contents.map(({ raw }) => digestOf(raw));
    await waitUntil(async () => {
      const text = await linked();
      for (const digest of digests) expect(text).toContain(digest);
    });
    const hexes = digests.map(digest => digest.slice('sha256:'.length));
    expect(await stored('content')).toEqual(expect.arrayContaining(hexes));
    await restartWithoutContent();
    upstream.intercept((_, response) => {
      response.writeHead(404).end();
      return true;
    });
    await pull(`@${root.digest}`);
    upstream.intercept();
    await rm(join(store.folder, 'fleet/content/blobs'), { recursive: true });
    await restartWithoutContent();
    await pull(`@${root.digest}`);
    await waitUntil(async () => expect(await stored('content')).toEqual(expect.arrayContaining(hexes)));
  });

  test('sends clients of a network to the bucket for large blobs, and no others', async () => {
    const blob = `/v2/local/app/blobs/${digestOf(large)}`;
    const plain = await send(blob, { redirect: 'manual' });
    expect(plain.status).toBe(200);
    await plain.body?.cancel();
    const headers = { 'x-forwarded-for': NEAR };
    const sent = await send(blob, { redirect: 'manual', headers });
    const location = sent.headers.get('location') ?? '';
    expect([sent.status, sent.headers.get('content-length'), new URL(location).origin]).toEqual([
      307,
      '0',
      store.endpoint,
    ]);
    expect(location).not.toContain('a-secret-of-the-test');
    expect(veneer.readOutput()).not.toContain('X-Amz-Signature');
    const stored = await fetch(location);
    expect([stored.headers.get('content-type'), digestOf(await stored.bytes())]).toEqual([
      'application/octet-stream',
      digestOf(large),
    ]);
    const own = async (path: string, init: RequestInit = {}) => {
      const response = await send(path, { redirect: 'manual', headers, ...init });
      await response.body?.cancel();
      return response.status;
    };
    const small = await crane('digest', `${image}:v1`);
    expect(await own(blob, { headers: { ...headers, range: 'bytes=0-9' } })).toBe(206);
    expect(await own(blob, { method: 'HEAD' })).toBe(200);
    expect(await own(`/v2/local/app/manifests/${small}`)).toBe(200);
    expect(await own(`/v2/local/other/blobs/${digestOf(large)}`)).toBe(404);
    const from = `X-Forwarded-For: ${NEAR}`;
    await oras('pull', '--plain-http', '--header', from, '--output', 'redirected', `${image}:file`);
    expect(await run('cmp', [join(folder, 'large'), join(folder, 'redirected/large')])).toBe('');
  });

  test('has contexts of builds there', async () => {
    const context = join(folder, 'context');
    await mkdir(context);
    await writeFile(join(context, 'Dockerfile'), 'FROM scratch\nCOPY note /note\n');
    await writeFile(join(context, 'note'), 'a note\n');
    await veneerCommand('build', context, '-t', 'local/built:v1', '--platform', 'linux/amd64', '--await');
    expect(await stored('builds/contexts')).toHaveLength(1);
    await restartWithoutContent();
    await crane('validate', '--remote', `${address}/local/built:v1`);
  });

  test('ends a push whose service is killed while it gets the parts, with all of it or with an error that says to try again', async () => {
    const more = randomBytes(40_000_000);
    const pushing = send(`/v2/local/app/blobs/uploads/?digest=${digestOf(more)}`, { method: 'POST', body: more });
    let isOver = false;
    const end = () => {
      isOver = true;
    };
    pushing.then(end, end);
    // On a fast machine all of it may be there before anyone has looked.
    await waitUntil(
      async () => expect(await listUploads()).not.toEqual([]),
      () => isOver,
    ).catch(() => {});
    await store.kill();
    await store.start();
    const { status } = await pushing;
    expect([201, 503]).toContain(status);
    const again = await send(`/v2/local/app/blobs/uploads/?digest=${digestOf(more)}`, { method: 'POST', body: more });
    expect(again.status).toBe(201);
    await restartWithoutContent();
    expect(digestOf(await (await send(`/v2/local/app/blobs/${digestOf(more)}`)).bytes())).toBe(digestOf(more));
  });

  test('deletes and collects in the bucket, by the service and by a command', async () => {
    const once = randomBytes(1000);
    await writeFile(join(folder, 'once'), once);
    await oras('push', '--plain-http', `${address}/local/gone:file`, 'once');
    const digest = await crane('digest', `${address}/local/gone:file`);
    const hexOf = (text: string) => text.slice('sha256:'.length);
    const both = [hexOf(digest), hexOf(digestOf(once))];
    expect(await stored('hosted')).toEqual(expect.arrayContaining(both));
    await crane('delete', `${address}/local/gone@${digest}`);
    expect(await stored('hosted')).not.toContain(both[0]);
    expect(JSON.parse(await veneerCommand('gc', '--json'))).toMatchObject({ missing: { blobs: 0 } });
    expect(await stored('hosted')).not.toContain(both[1]);
    await veneer.stop();
    expect(JSON.parse(await veneerCommand('gc', '--json'))).toMatchObject({ missing: { blobs: 0 } });
    veneer = await start();
    await crane('validate', '--remote', `${image}:v1`);
  });

  test('waits for a service that is away for a moment, in a push and in the middle of a pull', async () => {
    await restartWithoutContent();
    const blob = await send(`/v2/local/app/blobs/${digestOf(large)}`);
    const reader = blob.body?.getReader();
    const first = await reader?.read();
    await store.kill();
    const pushing = crane('append', '--oci-empty-base', '-f', join(folder, 'layer.tar'), '-t', `${image}:away`);
    await waitUntil(async () => expect((await readiness())[0]).toBe(503));
    await store.start();
    const chunks = [first?.value ?? Buffer.of()];
    for (let next = await reader?.read(); next?.value; next = await reader?.read()) chunks.push(next.value);
    expect(digestOf(Buffer.concat(chunks))).toBe(digestOf(large));
    await pushing;
    await crane('validate', '--remote', `${image}:away`);
  });

  test('answers 503 with a reason while it is away for longer, keeps what it acknowledged, and takes the same request later', async () => {
    await isUp();
    const body = randomBytes(100_000);
    const acknowledged = await send(`/v2/local/app/blobs/uploads/?digest=${digestOf(body)}`, { method: 'POST', body });
    expect(acknowledged.status).toBe(201);
    const next = randomBytes(100_000);
    const upload = await send('/v2/local/app/blobs/uploads/', { method: 'POST' });
    const location = upload.headers.get('location') ?? '';
    const finish = () => {
      const url = new URL(location, `http://${address}`);
      url.searchParams.set('digest', digestOf(next));
      return fetch(url, { method: 'PUT', body: next });
    };
    await store.kill();
    onTestFinished(() => store.start());
    const refused = await finish();
    expect([refused.status, refused.headers.get('retry-after'), await refused.text()]).toEqual([
      503,
      '5',
      expect.stringContaining('the object store of the registry does not answer'),
    ]);
    const parts = [{ part: 'object store', fault: 'operator', status: 'DOWN' }];
    expect(await readiness()).toMatchObject([503, { parts }]);
    expect((await send('/health/live')).status).toBe(200);
    // What is cached is served.
    expect((await send(`/v2/local/app/blobs/${digestOf(body)}`)).status).toBe(200);
    await store.start();
    await isUp();
    expect((await finish()).status).toBe(201);
    await restartWithoutContent();
    for (const bytes of [body, next])
      expect(digestOf(await (await send(`/v2/local/app/blobs/${digestOf(bytes)}`)).bytes())).toBe(digestOf(bytes));
    expect(veneer.readOutput()).not.toMatch(/unhandled|internal error|a-secret-of-the-test/i);
  });

  test('starts while it is away, and is ready when it answers', async () => {
    await veneer.stop();
    await store.kill();
    onTestFinished(() => store.start());
    veneer = await start();
    expect((await readiness())[0]).toBe(503);
    await store.start();
    await isUp();
    await crane('validate', '--remote', `${image}:v1`);
    // The layers of rules could not be stored at the start.
    await waitUntil(() => {
      if (veneer.pid !== undefined) process.kill(veneer.pid, 'SIGHUP');
      return crane('manifest', `${address}/local/ruled:v1`);
    });
  });

  test('is one service with several workers', async () => {
    await veneer.stop();
    await configure('veneer', {}, 2);
    veneer = await start();
    await oras('push', '--plain-http', `${image}:workers`, 'large');
    const { layers } = Layers.parse(JSON.parse(await crane('manifest', `${image}:workers`)));
    const pull = () => send(`/v2/local/app/blobs/${layers[0]?.digest}`).then(response => response.bytes());
    for (const pulled of await Promise.all([pull(), pull(), pull()])) expect(Buffer.compare(pulled, large)).toBe(0);
    await crane('delete', `${image}:workers`);
    await expect(crane('manifest', `${image}:workers`)).rejects.toThrow(/MANIFEST_UNKNOWN|NOT_FOUND|404/);
  });

  test.each([
    ['without the bucket', { bucket: 'absent' }, 'content.s3: the bucket absent cannot be used: it does not exist'],
    ['in another region', { region: 'eu-west-1' }, 'it is in another region: correct content.s3.region'],
    ['that may not be written', {}, 'the credentials lack a right: they need s3:ListBucket'],
  ])('refuses to start, and doctor says why: a service %s', async (_, s3, message) => {
    const isReadOnly = Object.keys(s3).length === 0;
    const other = isReadOnly ? await startObjectStore({ isReadOnly }) : store;
    if (isReadOnly) onTestFinished(() => other.close());
    const config = await configure('refused', { endpoint: other.endpoint, ...s3 });
    const options = ['--config', config, '--data-dir', join(folder, 'other')];
    const listen = ['--listen', `127.0.0.1:${await findFreePort()}`];
    const env = OBJECT_STORE_KEY;
    await expect(run(process.execPath, ['src/main.ts', ...options, ...listen], { env })).rejects.toThrow(message);
    await expect(
      run(process.execPath, ['src/main.ts', 'doctor', ...options, ...listen], { env }),
    ).rejects.toMatchObject({
      stdout: expect.stringContaining(message),
    });
  });

  test('has no records rebuilt from a disk that has no content', async () => {
    await veneer.stop();
    await expect(veneerCommand('repair', '--dry-run')).rejects.toThrow(
      'content.s3 has it in a bucket: copy hosted/blobs',
    );
    veneer = await start();
  });

  test('refuses to start where this disk has content that the bucket lacks, and says how to copy it', async () => {
    const blobs = join(folder, 'earlier/hosted/blobs');
    const hex = digestOf(large).slice('sha256:'.length);
    await mkdir(join(blobs, 'sha256', hex.slice(0, 2)), { recursive: true });
    await mkdir(join(blobs, 'sha512'));
    await writeFile(join(blobs, 'sha256', hex.slice(0, 2), hex), large);
    const options = ['--config', join(folder, 'veneer.yaml'), '--data-dir', join(folder, 'earlier')];
    const starting = run(process.execPath, ['src/main.ts', ...options, '--listen', '127.0.0.1:0'], {
      env: OBJECT_STORE_KEY,
    });
    await expect(starting).rejects.toThrow(`aws s3 sync ${blobs} s3://veneer/fleet/hosted/blobs`);
  });
});
