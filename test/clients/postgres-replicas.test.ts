// Three Veneers at one PostgreSQL, with the content of hosted repositories, tokens and rules on a file system that they share: whatever one of
// them was told, the others know, also when one of them dies.
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { generateImage } from '../support/images.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { submitAugmentation } from './support/augment.ts';
import { findMissingTools } from './support/clients.ts';
import { POSTGRES_COMMANDS, type Postgres, startPostgres } from './support/postgres.ts';
import { checkUrl, findFreePort, type Killable, run, startProcess, waitUntil } from './support/process.ts';

const missing = findMissingTools(POSTGRES_COMMANDS);
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';

interface Replica {
  readonly address: string;
  readonly config: string;
  process: Killable;
}

describe.skipIf(missing)(`replicas on PostgreSQL${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
  let postgres: Postgres;
  let registry: TestRegistry;
  let folder: string;
  let a: Replica;
  let b: Replica;
  let c: Replica;
  let authorization: string;

  beforeAll(async () => {
    postgres = await startPostgres();
    registry = await startRegistry();
    const image = generateImage({ seed: 1, platforms: ['linux/amd64'], layers: 1, family: 'oci' });
    const contents = [...image.content].map(([digest, content]) => ({
      ...content,
      ...(digest === image.root.digest && { tags: ['1'] }),
    }));
    registry.put('library/app', contents);
    folder = await mkdtemp(join(tmpdir(), 'veneer-replicas-'));
    [a, b, c] = await Promise.all([create('a'), create('b'), create('c')]);
    ({ authorization } = await createToken());
  }, 120_000);

  afterAll(async () => {
    await Promise.all([a, b, c].map(replica => replica?.process.kill()));
    await registry?.close();
    await postgres?.close();
    if (folder) await rm(folder, { recursive: true });
  }, 60_000);

  async function create(name: string): Promise<Replica> {
    const dataDir = join(folder, name);
    await mkdir(dataDir);
    for (const shared of ['hosted', 'tokens', 'rules']) {
      await mkdir(join(folder, 'shared', shared), { recursive: true });
      await symlink(join(folder, 'shared', shared), join(dataDir, shared));
    }
    const settings = {
      dataDir,
      upstreams: { lab: { url: registry.url } },
      state: { postgres: { url: postgres.url, replicas: true } },
      access: {
        credentialKeys: ['the same thirty-two characters !'],
        grants: [{ anyone: true, repositories: ['lab/**'], allow: ['pull'] }],
      },
      pulls: { rate: { anonymous: '30/1h' } },
      rules: [{ name: 'labelled', match: { image: 'lab/**' }, labels: { from: 'a rule' } }],
      builds: { backends: ['embedded'] },
    };
    const config = join(folder, `${name}.yaml`);
    await writeFile(config, JSON.stringify(settings));
    const address = `127.0.0.1:${await findFreePort()}`;
    return { address, config, process: await start({ address, config }) };
  }

  const start = ({ address, config }: Pick<Replica, 'address' | 'config'>) =>
    startProcess(process.execPath, ['src/main.ts', '--config', config, '--listen', address], {
      checkReady: () => checkUrl(`http://${address}/health/ready`),
    });

  const veneer = (...args: readonly string[]) => run(process.execPath, ['src/main.ts', '--config', a.config, ...args]);

  async function createToken() {
    const rights = ['--pull', '**', '--push', '**', '--delete', '**'];
    const { id, token } = JSON.parse(await veneer('token', 'create', '--json', ...rights));
    return { id: String(id), authorization: `Basic ${Buffer.from(`ci:${token}`).toString('base64')}` };
  }

  const send = ({ address }: Replica, path: string, init: RequestInit = {}) =>
    fetch(`http://${address}${path}`, { ...init, headers: { authorization, ...init.headers } });
  const statusOf = (replica: Replica, path: string, init?: RequestInit) =>
    send(replica, path, init).then(async response => {
      await response.arrayBuffer();
      return response.status;
    });

  async function pushBlob(replica: Replica, text: string): Promise<void> {
    const body = Buffer.from(text);
    const path = `/v2/local/app/blobs/uploads/?digest=${digestOf(body)}`;
    expect(await statusOf(replica, path, { method: 'POST', body })).toBe(201);
  }

  async function pushTag(replica: Replica, tag: string): Promise<string> {
    const config = {
      mediaType: 'application/vnd.oci.image.config.v1+json',
      digest: digestOf(Buffer.from('{}')),
      size: 2,
    };
    const body = JSON.stringify({ schemaVersion: 2, mediaType: MANIFEST, config, layers: [], annotations: { tag } });
    const init = { method: 'PUT', headers: { 'content-type': MANIFEST }, body };
    expect(await statusOf(replica, `/v2/local/app/manifests/${tag}`, init)).toBe(201);
    return digestOf(Buffer.from(body));
  }

  test('a tag that is pushed at one is pulled at the other, and moved and deleted there', async () => {
    await pushBlob(a, '{}');
    const first = await pushTag(a, 'v1');
    const found = await send(b, '/v2/local/app/manifests/v1');
    expect([found.status, found.headers.get('docker-content-digest')]).toEqual([200, first]);
    expect(digestOf(Buffer.from(await found.arrayBuffer()))).toBe(first);
    const second = await pushTag(b, 'v2');
    const path = `/v2/local/app/manifests/${second}`;
    expect(await statusOf(a, path)).toBe(200);
    expect(await statusOf(a, '/v2/local/app/manifests/v2', { method: 'DELETE' })).toBe(202);
    await waitUntil(async () => expect(await statusOf(b, '/v2/local/app/manifests/v2')).toBe(404));
  });

  test('an upload goes on at the other, and ends at the first', async () => {
    const started = await send(a, '/v2/local/app/blobs/uploads/', { method: 'POST' });
    const [first, second] = ['one half, ', 'the other half'].map(text => Buffer.from(text));
    const patch = async (replica: Replica, location: string, body: Buffer) => {
      const path = new URL(location, 'http://veneer').pathname;
      const response = await send(replica, path, { method: 'PATCH', body });
      expect(response.status).toBe(202);
      return response.headers.get('location') ?? '';
    };
    const location = started.headers.get('location') ?? '';
    const afterFirst = await patch(b, location, first ?? Buffer.of());
    const afterSecond = await patch(a, afterFirst, second ?? Buffer.of());
    const digest = digestOf(Buffer.from('one half, the other half'));
    const path = `${new URL(afterSecond, 'http://veneer').pathname}?digest=${digest}`;
    expect(await statusOf(b, path, { method: 'PUT' })).toBe(201);
    expect(await statusOf(a, `/v2/local/app/blobs/${digest}`)).toBe(200);
  });

  test('a token that one has made is resolved by the other', async () => {
    const { targetImage } = await submitAugmentation(a.address, 'lab/library/app:1', { authorization });
    const [, repository, tag] = /^[^/]+\/(.+):([^:]+)$/.exec(targetImage) ?? [];
    expect(await statusOf(b, `/v2/${repository}/manifests/${tag}`)).toBe(200);
  });

  test('a digest that rules have made at one is known to the other', async () => {
    const tagged = await send(a, '/v2/lab/library/app/manifests/1', { method: 'HEAD' });
    const digest = tagged.headers.get('docker-content-digest');
    expect(await statusOf(b, `/v2/lab/library/app/manifests/${digest}`)).toBe(200);
  });

  test('a bearer token that one has signed is accepted by the other', async () => {
    const response = await send(a, '/token?service=veneer&scope=repository:local/app:pull');
    const { token } = JSON.parse(await response.text());
    expect(await statusOf(b, '/v2/local/app/manifests/v1', { headers: { authorization: `Bearer ${token}` } })).toBe(
      200,
    );
  });

  test('an access token that was revoked is refused by both', async () => {
    const token = await createToken();
    const pull = (replica: Replica) =>
      statusOf(replica, '/v2/local/app/manifests/v1', { headers: { authorization: token.authorization } });
    expect([await pull(a), await pull(b)]).toEqual([200, 200]);
    await veneer('token', 'revoke', token.id);
    await waitUntil(async () => expect([await pull(a), await pull(b)]).toEqual([401, 401]));
  });

  test('a rate is of all together: of a hundred requests exactly as many are answered as it allows', async () => {
    const ask = async (replica: Replica | undefined) => {
      const response = await fetch(`http://${replica?.address}/v2/lab/library/app/manifests/1`);
      await response.arrayBuffer();
      return [response.status, response.headers.get('ratelimit-policy')];
    };
    const answers = await Promise.all(Array.from({ length: 100 }, (_, at) => ask([a, b, c][at % 3])));
    const policy = '"pulls";q=30;w=3600';
    expect(answers.filter(([status]) => status === 200)).toEqual(Array(30).fill([200, policy]));
    expect(answers.filter(([status]) => status !== 200)).toEqual(Array(70).fill([429, policy]));
  });

  test('pushes at both at the same time all come about, and one that dies among them takes nothing along', async () => {
    const tags = Array.from({ length: 12 }, (_, at) => `many-${at}`);
    const digests = await Promise.all(tags.map((tag, at) => pushTag(at % 2 === 0 ? a : b, tag)));
    const more = Array.from({ length: 20 }, (_, at) => `more-${at}`);
    const acknowledged: (readonly [string, string])[] = [];
    const pushing = more.map(async (tag, at) => {
      const digest = await pushTag(at % 2 === 0 ? a : b, tag).catch(() => undefined);
      if (digest !== undefined) acknowledged.push([tag, digest]);
    });
    await waitUntil(async () => expect(acknowledged.length).toBeGreaterThan(2));
    await b.process.kill();
    await Promise.all(pushing);
    // A lock of the dead one ends by itself.
    acknowledged.push(['after', await pushTag(a, 'after')]);
    for (const [tag, digest] of [...tags.map((tag, at) => [tag, digests[at]] as const), ...acknowledged]) {
      const response = await send(a, `/v2/local/app/manifests/${tag}`, { method: 'HEAD' });
      expect([tag, response.headers.get('docker-content-digest')]).toEqual([tag, digest]);
    }
    b.process = await start(b);
    expect(await statusOf(b, '/v2/local/app/manifests/after')).toBe(200);
  });
});
