// One Veneer with two workers on one port and one data directory: what one of them was told the other knows, also when one of them is killed.
// Each request comes on a connection of its own, which either of the workers accepts.
import { once } from 'node:events';
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { type IncomingMessage, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { buffer } from 'node:stream/consumers';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { containerFile, manifestPath } from '../clients/support/builds.ts';
import { checkUrl, findFreePort, type Killable, run, startProcess, waitUntil } from '../clients/support/process.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';

const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const MIB = 2 ** 20;
const CACHE = { maxSize: '8MiB', water: { high: 1, low: 0.5 } };
const BLOBS = Array.from({ length: 24 }, (_, at) => Buffer.alloc(MIB, `the bytes of ${at} `));

let folder: string;
let dataDir: string;
let config: string;
let address: string;
let registry: TestRegistry;
let veneer: Killable;
let authorization: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veneer-workers-'));
  dataDir = join(folder, 'data');
  config = join(folder, 'veneer.yaml');
  registry = await startRegistry();
  registry.put(
    'library/app',
    BLOBS.map(raw => ({ mediaType: 'application/octet-stream', raw })),
  );
  address = `127.0.0.1:${await findFreePort()}`;
  const settings = {
    ...{ listen: address, dataDir, workers: 2, cache: CACHE, access: {}, metrics: { networks: ['127.0.0.1'] } },
    ...{ upstreams: { lab: { url: registry.url } }, builds: { backends: ['embedded'] } },
    hosted: { collect: { grace: '1m' } },
  };
  await writeFile(config, JSON.stringify(settings));
  veneer = await start();
  ({ authorization } = await createToken());
});

afterAll(async () => {
  await veneer?.kill();
  await registry?.close();
  await rm(folder, { recursive: true });
});

async function start(): Promise<Killable> {
  const started = await startProcess(process.execPath, ['src/main.ts', '--config', config], {
    checkReady: () => checkUrl(`http://${address}/health/ready`),
  });
  await waitUntil(async () => expect(started.readOutput()).toMatch(/listening on .* with 2 workers/));
  return started;
}

interface Line {
  readonly worker?: number;
  readonly pid: number;
  readonly path?: string;
  readonly msg?: string;
}

function readLines(): readonly Line[] {
  const lines = veneer.readOutput().split('\n').slice(0, -1);
  return lines.filter(line => line.startsWith('{')).map(line => JSON.parse(line));
}

/** The process that is this worker now. */
function pidOf(worker: number): number {
  return (
    readLines().findLast(line => line.worker === worker && line.msg !== undefined && !line.msg.includes('worker'))
      ?.pid ?? 0
  );
}

interface Sent {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer | string;
}

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
}

/** On a new connection. */
async function send(path: string, { method = 'GET', headers = {}, body }: Sent = {}): Promise<Answer> {
  const sent = request(`http://${address}${path}`, { method, headers: { authorization, ...headers }, agent: false });
  sent.end(body);
  const [response]: IncomingMessage[] = await once(sent, 'response');
  if (!response) throw new Error('no response');
  return { status: response.statusCode ?? 0, headers: response.headers, body: await buffer(response) };
}

const statusOf = async (path: string, sent?: Sent) => (await send(path, sent)).status;

/** A connection that a killed worker had is lost: one more attempt has to do. */
const retried = <T>(work: () => Promise<T>): Promise<T> => work().catch(work);

const cli = (...args: readonly string[]) => run(process.execPath, ['src/main.ts', '--config', config, ...args]);

async function createToken() {
  const { id, token } = JSON.parse(
    await cli(
      'token',
      'create',
      '--json',
      '--pull',
      '**',
      '--push',
      '**',
      '--delete',
      '**',
      '--build',
      '**',
      '--admin',
    ),
  );
  return { id: String(id), authorization: `Basic ${Buffer.from(`ci:${token}`).toString('base64')}` };
}

async function pushBlob(body: Buffer): Promise<Digest> {
  const digest = digestOf(body);
  const { status } = await send(`/v2/local/app/blobs/uploads/?digest=${digest}`, { method: 'POST', body });
  expect(status).toBe(201);
  return digest;
}

async function pushTag(tag: string): Promise<Digest> {
  const blob = { mediaType: 'application/vnd.oci.image.config.v1+json', digest: digestOf(Buffer.from('{}')), size: 2 };
  const body = JSON.stringify({
    schemaVersion: 2,
    mediaType: MANIFEST,
    config: blob,
    layers: [],
    annotations: { tag },
  });
  const path = `/v2/local/app/manifests/${tag}`;
  const { status } = await send(path, { method: 'PUT', headers: { 'content-type': MANIFEST }, body });
  expect([tag, status]).toEqual([tag, 201]);
  return digestOf(Buffer.from(body));
}

const findTag = async (tag: string) =>
  (await retried(() => send(`/v2/local/app/manifests/${tag}`, { method: 'HEAD' }))).headers['docker-content-digest'];

test('both workers serve, under one name and one number of processes in the metrics', async () => {
  await waitUntil(async () => {
    await Promise.all(Array.from({ length: 8 }, () => statusOf('/v2/')));
    expect(workersOf('/v2/')).toEqual([1, 2]);
  });
  const metrics = (await send('/metrics')).body.toString();
  expect(/^veneer_build_info\{.*\} (\d+)$/m.exec(metrics)?.[1]).toBe('1');
  // As many requests as both have served.
  const served = [...metrics.matchAll(/^veneer_http_requests_total\{.*\} (\d+)$/gm)].reduce(
    (sum, [, n]) => sum + Number(n),
    0,
  );
  expect(served).toBeGreaterThanOrEqual(8);
});

test('an upload goes on at whichever worker its next part comes to', async () => {
  await pushBlob(Buffer.from('{}'));
  let at = 0;
  // Until both had parts of one.
  await waitUntil(async () => {
    at += 1;
    const path = await pushInParts(
      Array.from({ length: 6 }, (_, part) => Buffer.alloc(100_000, `part ${part} of ${at} `)),
    );
    await expect.poll(() => workersOf(path), { timeout: 1000 }).toEqual([1, 2]);
  });
});

/** Gives the path of the upload. */
async function pushInParts(parts: readonly Buffer[]): Promise<string> {
  const started = await send('/v2/local/app/blobs/uploads/', { method: 'POST' });
  const { pathname: path } = new URL(started.headers.location ?? '', 'http://veneer');
  for (const body of parts) expect(await statusOf(path, { method: 'PATCH', body })).toBe(202);
  const whole = Buffer.concat(parts);
  const digest = digestOf(whole);
  expect(await statusOf(`${path}?digest=${digest}`, { method: 'PUT' })).toBe(201);
  const pulled = await Promise.all(Array.from({ length: 4 }, () => send(`/v2/local/app/blobs/${digest}`)));
  for (const { body } of pulled) expect(body.equals(whole)).toBe(true);
  return path;
}

/** Those that served requests for a path, by their lines in the log. */
function workersOf(path: string): readonly (number | undefined)[] {
  const lines = readLines().filter(line => line.path === path);
  return [...new Set(lines.map(({ worker }) => worker))].sort();
}

test('a tag is moved at one worker and pulled at all, and a revoked token is refused by all at once', async () => {
  for (let at = 0; at < 4; at += 1) {
    const digest = await pushTag('moved');
    expect([await findTag('moved'), await findTag('moved')]).toEqual([digest, digest]);
  }
  const token = await createToken();
  const pull = () => statusOf('/v2/local/app/manifests/moved', { headers: { authorization: token.authorization } });
  expect(await Promise.all([pull(), pull(), pull(), pull()])).toEqual([200, 200, 200, 200]);
  await cli('token', 'revoke', token.id);
  await waitUntil(async () =>
    expect(await Promise.all([pull(), pull(), pull(), pull()])).toEqual([401, 401, 401, 401]),
  );
});

test('what one worker has fetched all serve, and the cache keeps to one budget', async () => {
  const digests = BLOBS.map(blob => digestOf(blob));
  const [first] = digests;
  const path = `/v2/lab/library/app/blobs/${first}`;
  const pull = async () => expect(digestOf((await send(path)).body)).toBe(first);
  const countFetches = () =>
    registry.requests.filter(({ method, url }) => method === 'GET' && url === path.replace('/lab', '')).length;
  await waitUntil(async () => {
    await Promise.all(Array.from({ length: 8 }, pull));
    expect(workersOf(path)).toEqual([1, 2]);
  });
  expect(countFetches()).toBe(1);
  await Promise.all(
    digests.map(async digest =>
      expect(digestOf((await send(`/v2/lab/library/app/blobs/${digest}`)).body)).toBe(digest),
    ),
  );
  await waitUntil(async () => expect(await measure(join(dataDir, 'content', 'blobs'))).toBeLessThanOrEqual(8 * MIB));
});

/** The bytes of all files. */
async function measure(directory: string): Promise<number> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const files = entries
    .filter(entry => entry.isFile())
    .map(entry => stat(join(entry.parentPath, entry.name), { throwIfNoEntry: false }));
  return (await Promise.all(files)).reduce((sum, found) => sum + (found?.size ?? 0), 0);
}

test('a build that one worker was asked for is known to both, and so is its image', async () => {
  const body = JSON.stringify({ containerFile: containerFile('FROM scratch', 'ENV A=b') });
  const init = { method: 'POST', headers: { 'content-type': 'application/json' }, body };
  const { status, body: answer } = await send('/v1alpha2/container', init);
  expect([status, answer.toString()]).toEqual([200, expect.any(String)]);
  const { buildId, targetImage, containerImage } = JSON.parse(answer.toString());
  const path = `/v1alpha1/builds/${buildId}`;
  await waitUntil(async () => {
    const found = await Promise.all(
      [1, 2, 3, 4].map(async () => JSON.parse((await send(path)).body.toString()).status),
    );
    expect([new Set(found), workersOf(path)]).toEqual([new Set(['succeeded']), [1, 2]]);
  });
  const logs = await Promise.all([1, 2, 3, 4].map(async () => (await send(`${path}/logs`)).body.toString()));
  expect(new Set(logs).size).toBe(1);
  expect(await statusOf(manifestPath(targetImage))).toBe(200);
  const built = manifestPath(`host/${containerImage}`);
  await waitUntil(async () => {
    const pulled = await Promise.all([1, 2, 3, 4].map(() => statusOf(built)));
    expect([new Set(pulled), workersOf(built)]).toEqual([new Set([200]), [1, 2]]);
  });
});

test('workers that are killed amid pushes, pulls and a collection take nothing along that was acknowledged', async () => {
  const acknowledged: (readonly [string, Digest])[] = [];
  const failed: string[] = [];
  let isOver = false;
  const clients = Array.from({ length: 4 }, async (_, client) => {
    for (let at = 0; !isOver; at += 1) {
      const tag = `killed-${client}-${at}`;
      const blob = Buffer.from(`blob of ${tag}`);
      try {
        await retried(() => pushBlob(blob));
        acknowledged.push([tag, await retried(() => pushTag(tag))]);
        const digest = digestOf(BLOBS[at % BLOBS.length] ?? Buffer.of());
        const pulled = await retried(() => send(`/v2/lab/library/app/blobs/${digest}`));
        if (digestOf(pulled.body) !== digest) throw new Error(`wrong bytes, ${pulled.status}`);
      } catch (error) {
        failed.push(`${tag}: ${error}`);
      }
    }
  });
  for (const worker of [2, 1]) {
    const [count, pid] = [acknowledged.length, pidOf(worker)];
    await waitUntil(async () => expect(acknowledged.length).toBeGreaterThan(count + 8));
    await retried(() => statusOf('/v1/hosted/collect', { method: 'POST' }));
    process.kill(pid, 'SIGKILL');
    await waitUntil(async () => {
      await Promise.all(Array.from({ length: 4 }, () => retried(() => statusOf('/v2/'))));
      expect(pidOf(worker)).not.toBe(pid);
    });
  }
  isOver = true;
  await Promise.all(clients);
  expect(failed).toEqual([]);
  for (const [tag, digest] of acknowledged) expect([tag, await findTag(tag)]).toEqual([tag, digest]);
  await pushTag('after');
});

test('all stop when the primary process is told to, and leave sound records', async () => {
  await veneer.stop();
  const messages = readLines().map(({ msg }) => msg);
  expect(messages.filter(msg => msg === 'stopped').length).toBe(2);
  expect(messages.at(-1)).toBe('all workers have stopped');
  const database = new DatabaseSync(join(dataDir, 'records.db'), { readOnly: true });
  expect(database.prepare('PRAGMA integrity_check').all()).toEqual([{ integrity_check: 'ok' }]);
  database.close();
});

test('workers end with a primary process that is killed, and the directory is free then', async () => {
  veneer = await start();
  expect(await findTag('after')).toBeDefined();
  await veneer.kill();
  veneer = await start();
  expect(await findTag('after')).toBeDefined();
});

test('a signal during the start ends it in order', async () => {
  await veneer.stop();
  veneer = await startProcess(process.execPath, ['src/main.ts', '--config', config], {
    // Of the first worker, while the other one starts.
    checkReady: () => checkUrl(`http://${address}/health/live`),
  });
  process.kill(veneer.pid ?? 0, 'SIGHUP');
  await veneer.stop();
  expect(readLines().at(-1)?.msg).toBe('all workers have stopped');
});

test('a worker that cannot start ends the service with its message', async () => {
  const { host } = registry;
  await writeFile(config, JSON.stringify({ listen: host, dataDir, workers: 2 }));
  const running = run(process.execPath, ['src/main.ts', '--config', config]);
  await expect(running).rejects.toThrow(/cannot listen on .*worker 1 of 2 did not start/s);
});
