// Three Veneers at one PostgreSQL and one bucket, with no disk in common: each request goes to another of them than the one before, as a
// balancer may have it. What clients push comes about, also where one of them dies or the bucket is away for a while.
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, request, type Server } from 'node:http';
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
import { POSTGRES_COMMANDS, type Postgres, startPostgres } from './support/postgres.ts';
import { checkUrl, findFreePort, type Killable, run, startProcess, waitUntil } from './support/process.ts';

const missing = findMissingTools([...POSTGRES_COMMANDS, ...OBJECT_STORE_COMMANDS, 'crane', 'oras', 'skopeo']);
const Layers = z.object({ layers: z.array(z.object({ digest: z.string() })) });
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';

interface Replica {
  readonly name: string;
  readonly address: string;
  readonly config: string;
  process: Killable | undefined;
}

describe.skipIf(missing)(`replicas at one bucket${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
  let postgres: Postgres;
  let store: ObjectServer;
  let upstream: TestRegistry;
  let folder: string;
  let replicas: readonly Replica[];
  let balancer: Server;
  let address: string;
  const large = randomBytes(12_000_000);

  beforeAll(async () => {
    [postgres, store, upstream] = await Promise.all([startPostgres(), startObjectStore(), startRegistry()]);
    folder = await mkdtemp(join(tmpdir(), 'veneer-s3-replicas-'));
    await writeFile(join(folder, 'layer.tar'), await makeTar());
    await writeFile(join(folder, 'large'), large);
    await mkdir(join(folder, 'layer/opt'), { recursive: true });
    await writeFile(join(folder, 'layer/opt/note'), 'a note\n');
    // The first one makes the schema.
    const first = await create('a');
    replicas = [first, ...(await Promise.all(['b', 'c'].map(name => create(name))))];
    balancer = await startBalancer();
    const { port } = Object(balancer.address());
    address = `127.0.0.1:${port}`;
  }, 120_000);

  afterAll(async () => {
    balancer?.closeAllConnections();
    balancer?.close();
    await Promise.all((replicas ?? []).map(each => each.process?.kill()));
    await upstream?.close();
    await store?.close();
    await postgres?.close();
    if (folder) await rm(folder, { recursive: true });
  }, 60_000);

  async function create(name: string, more: object = {}): Promise<Replica> {
    const settings = {
      dataDir: join(folder, name),
      content: { s3: { endpoint: store.endpoint, bucket: store.bucket, prefix: 'fleet/', upstreams: true } },
      upstreams: { lab: { url: upstream.url } },
      state: { postgres: { url: postgres.url, replicas: true } },
      hosted: { collect: { every: 'off', grace: '0s', untagged: '0s' } },
      rules: [
        { name: 'notes', match: { image: 'local/ruled*' }, layers: [{ directory: join(folder, 'layer') }] },
        { name: 'labelled', match: { image: 'lab/ruled' }, labels: { from: 'a rule' } },
      ],
      builds: { backends: ['embedded'] },
      // Slow enough to leave what a test has damaged to the command that the test runs.
      scrub: { every: '1d', bucket: true },
      ...more,
    };
    const config = join(folder, `${name}.yaml`);
    await writeFile(config, JSON.stringify(settings));
    const replica: Replica = {
      ...{ name, config },
      address: `127.0.0.1:${await findFreePort()}`,
      process: undefined,
    };
    await start(replica);
    return replica;
  }

  async function start(replica: Replica): Promise<void> {
    const args = ['src/main.ts', '--config', replica.config, '--listen', replica.address];
    replica.process = await startProcess(process.execPath, args, {
      env: OBJECT_STORE_KEY,
      checkReady: () => checkUrl(`http://${replica.address}/health/ready`),
    });
  }

  /** Sends each request to the next replica that is alive: without its body, to be sent again by the client where that one dies. */
  async function startBalancer(): Promise<Server> {
    let next = 0;
    const server = createServer((from, to) => {
      const alive = replicas.filter(({ process }) => process !== undefined);
      const replica = alive[next++ % alive.length];
      const [host, port] = (replica?.address ?? '').split(':');
      const { method, url: path, headers } = from;
      const onward = request({ host, port, method, path, headers, agent: false }, answer => {
        to.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(to);
        answer.on('error', () => to.destroy());
      });
      onward.on('error', () => {
        if (to.headersSent) return to.destroy();
        to.writeHead(503, { 'retry-after': '1', connection: 'close' });
        to.end();
      });
      from.on('error', () => onward.destroy());
      from.pipe(onward);
    });
    server.listen(0, '127.0.0.1');
    await new Promise(resolve => server.once('listening', resolve));
    return server;
  }

  const at = (index: number): Replica => {
    const replica = replicas[index % replicas.length];
    if (!replica) throw new Error('there is no replica');
    return replica;
  };
  const send = (target: Replica | undefined, path: string, init: RequestInit = {}) =>
    fetch(`http://${target?.address ?? address}${path}`, init);
  const statusOf = (target: Replica | undefined, path: string, init?: RequestInit) =>
    send(target, path, init).then(async response => {
      await response.arrayBuffer();
      return response.status;
    });
  const read = async (target: Replica | undefined, path: string) => {
    const response = await send(target, path);
    return response.ok ? digestOf(await response.bytes()) : response.status;
  };
  const pathOf = (response: Response) => new URL(response.headers.get('location') ?? '', 'http://veneer').pathname;
  const crane = (...args: readonly string[]) => run(clientPath('crane'), args);

  async function listObjects(kind: string): Promise<readonly string[]> {
    const entries = await readdir(join(store.folder, 'fleet', kind), { recursive: true, withFileTypes: true }).catch(
      () => [],
    );
    return entries.filter(entry => entry.isFile()).map(({ name }) => name);
  }

  async function pushManifest(repository: string, tag: string, blobs: readonly Buffer[]) {
    const config = digestOf(Buffer.from('{}'));
    const body = JSON.stringify({
      ...{ schemaVersion: 2, mediaType: MANIFEST },
      config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: config, size: 2 },
      layers: blobs.map(blob => ({
        mediaType: 'application/vnd.oci.image.layer.v1.tar',
        digest: digestOf(blob),
        size: blob.byteLength,
      })),
    });
    const init = { method: 'PUT', headers: { 'content-type': MANIFEST }, body };
    expect(await statusOf(undefined, `/v2/${repository}/manifests/${tag}`, init)).toBe(201);
    return digestOf(Buffer.from(body));
  }

  async function expectServed(replica: Replica, name: string): Promise<void> {
    const [repository] = name.split(':');
    const { layers } = Layers.parse(JSON.parse(await crane('manifest', `${replica.address}/${name}`)));
    expect(layers.length).toBeGreaterThan(1);
    for (const { digest } of layers) expect(await read(replica, `/v2/${repository}/blobs/${digest}`)).toBe(digest);
  }

  async function collect({ config, address }: Replica): Promise<unknown> {
    const args = ['src/main.ts', 'gc', '--json', '--config', config, '--listen', address];
    return JSON.parse(await run(process.execPath, args, { env: OBJECT_STORE_KEY }));
  }

  const pushBlob = (target: Replica | undefined, repository: string, body: Buffer) =>
    statusOf(target, `/v2/${repository}/blobs/uploads/?digest=${digestOf(body)}`, { method: 'POST', body });

  test('clients push and pull through a balancer that has each request at another replica', async () => {
    const image = `${address}/local/app`;
    await crane('append', '--oci-empty-base', '-f', join(folder, 'layer.tar'), '-t', `${image}:v1`);
    await crane('validate', '--remote', `${image}:v1`);
    await run(clientPath('oras'), ['push', '--plain-http', `${image}:file`, 'large'], { cwd: folder });
    // A copy to another repository: mounts.
    await crane('copy', `${image}:v1`, `${address}/local/other:v1`);
    await crane('validate', '--remote', `${address}/local/other:v1`);
    expect(await read(undefined, `/v2/local/app/blobs/${digestOf(large)}`)).toBe(digestOf(large));
    await run('skopeo', [
      ...['--insecure-policy', 'copy', '--src-tls-verify=false', '--dest-tls-verify=false'],
      ...[`docker://${image}:v1`, `docker://${address}/local/skopeo:v1`],
    ]);
    for (const replica of replicas) await crane('validate', '--remote', `${replica.address}/local/skopeo:v1`);
    await waitUntil(async () => expect(await listObjects('hosted/uploads')).toEqual([]));
    // Nobody has another's.
    for (const { name } of replicas) expect(await readdir(join(folder, name, 'hosted'))).not.toContain('blobs');
  });

  test('an upload in parts goes on at any replica, whose status is that of all', async () => {
    const parts = [large.subarray(0, 6_000_000), large.subarray(6_000_000, 6_000_100), large.subarray(6_000_100)];
    let size = 0;
    let path = pathOf(await send(at(0), '/v2/local/parts/blobs/uploads/', { method: 'POST' }));
    for (const [index, body] of parts.entries()) {
      const range = `${size}-${size + body.byteLength - 1}`;
      const headers = { 'content-range': range, 'content-type': 'application/octet-stream' };
      const response = await send(at(index + 1), path, { method: 'PATCH', headers, body });
      expect(response.status).toBe(202);
      size += body.byteLength;
      path = pathOf(response);
      const status = await send(at(index + 2), path);
      expect([status.status, status.headers.get('range')]).toEqual([204, `0-${size - 1}`]);
    }
    expect(await statusOf(at(2), `${path}?digest=${digestOf(large)}`, { method: 'PUT' })).toBe(201);
    for (const replica of replicas)
      expect(await read(replica, `/v2/local/parts/blobs/${digestOf(large)}`)).toBe(digestOf(large));
    await waitUntil(async () => expect(await listObjects('hosted/uploads')).toEqual([]));
  });

  const fetched = (digest: string) =>
    upstream.requests.filter(
      ({ method, url }) => method === 'GET' && url.startsWith('/v2/app/') && url.endsWith(digest),
    ).length;

  /** Has the upstream send this replica a part of a blob, and then nothing: to others it sends all. */
  async function fetchPart(replica: Replica) {
    const layer = randomBytes(1_000_000);
    const digest = digestOf(layer);
    upstream.put('app', [{ mediaType: 'application/octet-stream', raw: layer }]);
    const { promise: isUnderWay, resolve } = Promise.withResolvers<void>();
    upstream.intercept((request, response) => {
      if (!request.url?.endsWith(digest) || request.method !== 'GET') return false;
      response.writeHead(200, { 'content-length': layer.length }).write(layer.subarray(0, 400_000), () => resolve());
      return true;
    });
    const path = `/v2/lab/app/blobs/${digest}`;
    const broken = read(replica, path).catch(error => error);
    await isUnderWay;
    upstream.intercept();
    return { path, digest, broken };
  }

  test('a replica that dies in an upload and while it fetches costs its clients a request, and others wait for its leases alone', async () => {
    const body = randomBytes(9_000_000);
    const dying = at(1);
    let path = pathOf(await send(at(0), '/v2/local/dying/blobs/uploads/', { method: 'POST' }));
    path = pathOf(await send(dying, path, { method: 'PATCH', body: body.subarray(0, 1_000_000) }));
    const { promise: isUnderWay, resolve } = Promise.withResolvers<void>();
    const slow = new ReadableStream<Uint8Array>({
      start(controller) {
        controller.enqueue(body.subarray(1_000_000, 4_000_000));
        resolve();
      },
    });
    const broken = fetch(`http://${dying.address}${path}`, { method: 'PATCH', body: slow, duplex: 'half' }).catch(
      error => error,
    );
    await isUnderWay;
    const [id = ''] = path.split('/').slice(-1);
    await waitUntil(() => readFile(join(folder, dying.name, 'hosted/drafts', id)));
    const part = await fetchPart(dying);
    const waiting = Promise.all([read(at(0), part.path), read(at(2), part.path)]);
    await dying.process?.kill();
    dying.process = undefined;
    expect([await broken, await part.broken]).toEqual([expect.any(Error), expect.any(Error)]);
    // The lock of the dead one ends by itself.
    const rest = body.subarray(1_000_000);
    const headers = { 'content-range': `1000000-${body.byteLength - 1}` };
    const again = await send(at(2), path, { method: 'PATCH', headers, body: rest });
    expect(again.status).toBe(202);
    expect(await statusOf(at(0), `${pathOf(again)}?digest=${digestOf(body)}`, { method: 'PUT' })).toBe(201);
    await start(dying);
    expect(await read(dying, `/v2/local/dying/blobs/${digestOf(body)}`)).toBe(digestOf(body));
    expect(await readdir(join(folder, dying.name, 'hosted/drafts'))).toEqual([]);
    expect(await waiting).toEqual([part.digest, part.digest]);
    expect(await read(dying, part.path)).toBe(part.digest);
    expect(fetched(part.digest)).toBe(2);
  });

  test('a bucket that is away for a while refuses what it has to take, with when to try again, nothing is lost, and upstreams are pulled from', async () => {
    const body = randomBytes(300_000);
    const layer = randomBytes(100_000);
    upstream.put('app', [{ mediaType: 'application/octet-stream', raw: layer }]);
    const path = pathOf(await send(at(0), '/v2/local/away/blobs/uploads/', { method: 'POST' }));
    expect(await statusOf(at(1), path, { method: 'PATCH', body: body.subarray(0, 100_000) })).toBe(202);
    await store.kill();
    onTestFinished(() => store.start());
    const fetched = read(at(1), `/v2/lab/app/blobs/${digestOf(layer)}`);
    const headers = { 'content-range': `100000-${body.byteLength - 1}` };
    const patch = (target: Replica) => send(target, path, { method: 'PATCH', headers, body: body.subarray(100_000) });
    const refused = await patch(at(2));
    expect([refused.status, Number(refused.headers.get('retry-after'))]).toEqual([503, expect.any(Number)]);
    expect((await send(at(0), path)).headers.get('range')).toBe('0-99999');
    expect(await fetched).toBe(digestOf(layer));
    await store.start();
    await waitUntil(async () => expect((await patch(at(0))).status).toBe(202));
    expect(await statusOf(at(2), `${path}?digest=${digestOf(body)}`, { method: 'PUT' })).toBe(201);
    expect(await read(at(1), `/v2/local/away/blobs/${digestOf(body)}`)).toBe(digestOf(body));
    // Until then this replica pulls from upstreams without asking the bucket.
    const before = (await listObjects('content')).length;
    await waitUntil(async () => {
      const raw = randomBytes(1000);
      upstream.put('app', [{ mediaType: 'application/octet-stream', raw }]);
      expect(await read(at(1), `/v2/lab/app/blobs/${digestOf(raw)}`)).toBe(digestOf(raw));
      expect((await listObjects('content')).length).toBeGreaterThan(before);
    });
    // What it has fetched meanwhile follows.
    await waitUntil(async () =>
      expect(await listObjects('content')).toContain(digestOf(layer).slice('sha256:'.length)),
    );
  });

  test('tags, deletions and collections at one are true for all, and take nothing that another needs', async () => {
    const [shared, alone] = [randomBytes(1000), randomBytes(1000)];
    expect(await pushBlob(at(0), 'local/gone', Buffer.from('{}'))).toBe(201);
    for (const blob of [shared, alone]) expect(await pushBlob(at(1), 'local/gone', blob)).toBe(201);
    const first = await pushManifest('local/gone', 'v1', [shared, alone]);
    const mount = `/v2/local/stays/blobs/uploads/?from=local/gone&mount=${digestOf(shared)}`;
    expect(await statusOf(at(2), mount, { method: 'POST' })).toBe(201);
    expect(await pushBlob(undefined, 'local/stays', Buffer.from('{}'))).toBe(201);
    await pushManifest('local/stays', 'v1', [shared]);
    expect(await statusOf(at(2), `/v2/local/gone/manifests/${first}`, { method: 'DELETE' })).toBe(202);
    for (const replica of replicas)
      await waitUntil(async () => expect(await statusOf(replica, '/v2/local/gone/manifests/v1')).toBe(404));
    // At once at two of them, while blobs are pushed that have been pushed before.
    const [reports] = await Promise.all([
      Promise.all([collect(at(0)), collect(at(1))]),
      pushBlob(at(2), 'local/again', alone),
    ]);
    for (const report of reports) expect(report).toMatchObject({ missing: { blobs: 0 } });
    expect(await read(at(0), `/v2/local/stays/blobs/${digestOf(shared)}`)).toBe(digestOf(shared));
    // With no grace, what no manifest refers to may be gone again; what was pushed is whole wherever it is there.
    expect([404, digestOf(alone)]).toContain(await read(at(1), `/v2/local/again/blobs/${digestOf(alone)}`));
  });

  test('layers of tokens and of rules are served by replicas that have never seen them', async () => {
    await crane('append', '--oci-empty-base', '-f', join(folder, 'layer.tar'), '-t', `${at(0).address}/local/plain:v1`);
    const ruled = `${at(0).address}/local/ruled:v1`;
    await crane('mutate', '--set-platform', 'linux/amd64', '-t', ruled, `${at(0).address}/local/plain:v1`);
    const { targetImage } = await submitAugmentation(at(0).address, ruled);
    const [, name = ''] = /^[^/]+\/(.+)$/.exec(targetImage) ?? [];
    for (const replica of replicas.slice(1)) {
      await expectServed(replica, name);
      await expectServed(replica, 'local/ruled:v1');
    }
    expect((await listObjects('tokens')).length).toBeGreaterThan(0);
    expect((await listObjects('rules')).length).toBeGreaterThan(0);
  });

  test('what an upstream has is fetched once for all, and stays with all when the upstream has deleted it', async () => {
    const { root, content } = generateImage({ seed: 1, platforms: ['linux/amd64'], layers: 2, family: 'oci' });
    const contents = [...content].map(([digest, each]) => ({
      ...each,
      ...(digest === root.digest && { tags: ['1'] }),
    }));
    for (const name of ['app', 'ruled']) upstream.put(name, contents);
    const tag = async (replica: Replica, name = 'app') =>
      (await send(replica, `/v2/lab/${name}/manifests/1`, { method: 'HEAD' })).headers.get('docker-content-digest');
    expect(await tag(at(0))).toBe(root.digest);
    const ruled = await tag(at(0), 'ruled');
    expect(ruled).not.toBe(root.digest);
    const paths = contents.map(({ mediaType, raw }) => {
      const kind = /manifest|index/.test(mediaType) ? 'manifests' : 'blobs';
      return [`/v2/lab/app/${kind}/${digestOf(raw)}`, digestOf(raw)] as const;
    });
    const pullAll = () =>
      Promise.all(
        replicas.flatMap(replica =>
          paths.map(async ([path, digest]) => expect(await read(replica, path)).toBe(digest)),
        ),
      );
    await pullAll();
    for (const [path, digest] of paths) expect([path, fetched(digest)]).toEqual([path, 1]);
    upstream.intercept((_, response) => {
      response.writeHead(404).end();
      return true;
    });
    onTestFinished(() => upstream.intercept());
    await pullAll();
    for (const replica of replicas) {
      expect(await tag(replica)).toBe(root.digest);
      expect(await read(replica, `/v2/lab/ruled/manifests/${ruled}`)).toBe(ruled);
    }
  });

  test('a build whose context was sent to one is run by any, and pulled from all', async () => {
    const context = join(folder, 'context');
    await mkdir(context);
    await writeFile(join(context, 'Dockerfile'), 'FROM scratch\nCOPY note /note\n');
    await writeFile(join(context, 'note'), 'a note\n');
    const { config, address } = at(1);
    const options = ['-t', 'local/built:v1', '--platform', 'linux/amd64', '--await'];
    await run(
      process.execPath,
      ['src/main.ts', 'build', context, ...options, '--config', config, '--listen', address],
      { env: OBJECT_STORE_KEY },
    );
    expect(await listObjects('builds/contexts')).toHaveLength(1);
    for (const replica of replicas) await crane('validate', '--remote', `${replica.address}/local/built:v1`);
  });

  test('an object that is damaged is found by one of them, counts as missing at all, and is replaced by a push at another', async () => {
    const body = randomBytes(50_000);
    const digest = digestOf(body);
    expect(await pushBlob(at(0), 'local/damaged', body)).toBe(201);
    const file = join(store.folder, 'fleet/hosted/blobs/sha256', digest.slice(7, 9), digest.slice(7));
    const damaged = Buffer.from(body);
    damaged[7] = (damaged[7] ?? 0) ^ 1;
    await writeFile(file, damaged);
    const verified = await run(
      process.execPath,
      ['src/main.ts', 'cache', 'verify', '--config', at(1).config, '--listen', at(1).address],
      { env: OBJECT_STORE_KEY },
    ).catch(error => `${error.stdout}${error.stderr}`);
    expect(verified).toContain(digest);
    await waitUntil(async () => expect(await statusOf(at(2), `/v2/local/damaged/blobs/${digest}`)).toBe(404));
    expect(await pushBlob(at(2), 'local/damaged', body)).toBe(201);
    expect(digestOf(await readFile(file))).toBe(digest);
    for (const replica of replicas) expect(await read(replica, `/v2/local/damaged/blobs/${digest}`)).toBe(digest);
    // An object that is gone is in the report of a collection. A manifest keeps the link.
    expect(await pushBlob(at(0), 'local/damaged', Buffer.from('{}'))).toBe(201);
    await pushManifest('local/damaged', 'v1', [body]);
    await rm(file);
    expect(await collect(at(0))).toMatchObject({ missing: { blobs: 1, content: [{ digest }] } });
  });

  test('replicas of two workers each lose nothing where a worker is killed amid pushes, pulls and a collection', async () => {
    const all = replicas;
    const layer = randomBytes(3_000_000);
    upstream.put('app', [{ mediaType: 'application/octet-stream', raw: layer }]);
    // The collection has nothing to remove: what is on its way is spared.
    const settings = { workers: 2, hosted: { collect: { every: 'off' } } };
    replicas = await Promise.all(['d', 'e'].map(name => create(name, settings)));
    onTestFinished(async () => {
      const added = replicas;
      replicas = all;
      await Promise.all(added.map(({ process }) => process?.kill()));
    });
    // One that loses a worker before that stops.
    for (const { process } of replicas)
      await waitUntil(async () => expect(process?.readOutput()).toMatch(/listening on .* with 2 workers/));
    let pushed = 0;
    const push = async (number: number) => {
      const repository = `local/workers-${number % 3}`;
      const blob = randomBytes(50_000);
      const attempt = async () => {
        for (const each of [blob, Buffer.from('{}')]) expect(await pushBlob(undefined, repository, each)).toBe(201);
        return pushManifest(repository, `v${number}`, [blob]);
      };
      // Its worker may be the one that is killed.
      const digest = await attempt().catch(attempt);
      pushed += 1;
      return [
        [`/v2/${repository}/manifests/v${number}`, digest],
        [`/v2/${repository}/blobs/${digestOf(blob)}`, digestOf(blob)],
      ] as const;
    };
    const pull = async () => {
      const attempt = async () =>
        expect(await read(undefined, `/v2/lab/app/blobs/${digestOf(layer)}`)).toBe(digestOf(layer));
      await attempt().catch(attempt);
    };
    const pushing = Promise.all(Array.from({ length: 24 }, (_, number) => push(number)));
    const clients = Promise.all([pushing, ...Array.from({ length: 8 }, pull)]);
    clients.catch(() => {});
    await waitUntil(async () => expect(pushed).toBeGreaterThan(2));
    const collecting = collect(at(1));
    const [victim = 0] = await listWorkers(at(0));
    process.kill(victim, 'SIGKILL');
    const [pushes] = await clients;
    const acknowledged = pushes.flat();
    await waitUntil(async () => {
      const workers = await listWorkers(at(0));
      expect([workers.length, workers.includes(victim)]).toEqual([2, false]);
    });
    for (const replica of replicas)
      for (const [path, digest] of acknowledged) expect([path, await read(replica, path)]).toEqual([path, digest]);
    for (const report of [await collecting, await collect(at(0))]) {
      const lost = JSON.stringify(Object(report).missing);
      expect(acknowledged.filter(([, digest]) => lost.includes(digest))).toEqual([]);
    }
  });

  async function listWorkers({ process }: Replica): Promise<readonly number[]> {
    const children = await readFile(`/proc/${process?.pid}/task/${process?.pid}/children`, 'utf8');
    return children.trim().split(' ').map(Number);
  }
});
