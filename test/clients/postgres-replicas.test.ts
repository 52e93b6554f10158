// Three Veneers at one PostgreSQL, with the content of hosted repositories, tokens and rules on a file system that they share: whatever one of
// them was told, the others know, also when one of them dies.

import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
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
/** A lease may have been renewed once more after it was read. */
const RENEWED_MS = 3_000;
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
    for (const [seed, name] of [
      [1, 'app'],
      [2, 'base'],
      [3, 'other'],
      [4, 'away'],
    ] as const)
      putImage(name, seed);
    folder = await mkdtemp(join(tmpdir(), 'veneer-replicas-'));
    await writeFile(join(folder, 'Containerfile'), 'ARG BASE\nFROM $BASE\nENV TOOL=1\n');
    [a, b, c] = await Promise.all([create('a'), create('b'), create('c')]);
    ({ authorization } = await createToken());
  }, 120_000);

  afterAll(async () => {
    await Promise.all([a, b, c].map(replica => replica?.process.kill()));
    await registry?.close();
    await postgres?.close();
    if (folder) await rm(folder, { recursive: true });
  }, 60_000);

  function putImage(name: string, seed: number): void {
    const image = generateImage({ seed, platforms: ['linux/amd64'], layers: 1, family: 'oci' });
    const contents = [...image.content].map(([digest, content]) => ({
      ...content,
      ...(digest === image.root.digest && { tags: ['1'] }),
    }));
    registry.put(`library/${name}`, contents);
  }

  async function create(name: string): Promise<Replica> {
    const dataDir = join(folder, name);
    await mkdir(join(dataDir, 'builds'), { recursive: true });
    for (const shared of ['hosted', 'tokens', 'rules', 'builds/contexts']) {
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
      builds: {
        backends: ['embedded'],
        recipes: [
          {
            match: 'local/tools/{name}:{version}',
            containerFile: join(folder, 'Containerfile'),
            args: { BASE: 'lab/library/{name}:1' },
            platforms: ['linux/amd64'],
          },
        ],
      },
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

  /** Blobs of the repository are not answered until the function that is returned is called: its builds do not end before. */
  function holdBlobs(repository: string): () => void {
    const held: ServerResponse[] = [];
    registry.intercept(({ url }, response) => {
      const isHeld = url?.startsWith(`/v2/${repository}/blobs/`) === true;
      if (isHeld) held.push(response);
      return isHeld;
    });
    return () => {
      registry.intercept();
      for (const response of held) response.destroy();
    };
  }

  async function listBuilds(replica: Replica, image: string): Promise<readonly Record<string, unknown>[]> {
    const { builds } = Object(await (await send(replica, '/v1alpha1/builds')).json());
    return [...builds].filter(build => JSON.stringify(build).includes(image));
  }

  /** The running build of the image, and the one that runs it. */
  async function findOwner(image: string) {
    let id = '';
    let owner: Replica | undefined;
    await waitUntil(async () => {
      id = String((await listBuilds(a, image))[0]?.buildId);
      owner = [a, b, c].find(({ process }) => process.readOutput().includes(`"build":"${id}"`));
      if (!owner) throw new Error(`nobody runs ${id} of ${image}`);
    });
    return { id, owner: owner ?? a, other: owner === a ? b : a };
  }

  test('fifty pulls get one build; its process is killed, and the other one takes it over within 15 s', async () => {
    const release = holdBlobs('library/base');
    const path = '/v2/local/tools/base/manifests/1';
    const digestAt = async (replica: Replica) => {
      const response = await send(replica, path);
      expect(response.status).toBe(200);
      return digestOf(Buffer.from(await response.arrayBuffer()));
    };
    // Whose server dies asks the other one, as behind a balancer.
    const pulls = Array.from({ length: 50 }, (_, at) => {
      const [first, second] = at % 2 === 0 ? [a, b] : [b, a];
      return digestAt(first).catch(() => digestAt(second));
    });
    const { id, owner, other } = await findOwner('local/tools/base');
    const status = `/v1alpha1/builds/${id}/status`;
    expect(await (await send(other, status)).json()).toMatchObject({ id, status: 'PENDING' });
    const log = send(other, `/v1alpha1/builds/${id}/logs`, { headers: { accept: 'text/event-stream' } });
    await owner.process.kill();
    const killedAt = Date.now();
    release();
    const digests = new Set(await Promise.all(pulls));
    expect(digests.size).toBe(1);
    const text = await (await log).text();
    const [, takenOverAt = ''] = /"at":"([^"]+)"[^\n]*started again: the process that ran it is gone/.exec(text) ?? [];
    expect(Date.parse(takenOverAt) - killedAt).toBeLessThan(15_000);
    expect(text).toMatch(/event: end\ndata: .*succeeded/i);
    owner.process = await start(owner);
    expect(await digestAt(owner)).toBe([...digests][0]);
    expect(await (await send(owner, status)).json()).toMatchObject({ status: 'COMPLETED', succeeded: true });
    expect(await (await send(owner, `/v1alpha1/builds/${id}/logs`)).text()).toContain('started again');
    expect(await listBuilds(owner, 'local/tools/base')).toHaveLength(1);
  });

  test('a build goes on while PostgreSQL is away for longer than its lease, and is not begun again', async () => {
    const release = holdBlobs('library/away');
    const back = Promise.withResolvers<void>();
    const pull = async (replica: Replica) => {
      const path = '/v2/local/tools/away/manifests/1';
      let response = await send(replica, path);
      if (response.status === 503) {
        await back.promise;
        response = await send(replica, path);
      }
      return [response.status, await response.text()];
    };
    const pulls = [a, b].map(pull);
    const { id, owner, other } = await findOwner('local/tools/away');
    const following = [owner, other].map(replica => send(replica, `/v1alpha1/builds/${id}/logs`));
    const logs = (await Promise.all(following)).map(response => response.text());
    const lease = await postgres.query('SELECT expires_at FROM veneer.records WHERE collection = $1 AND key = $2', [
      'lease',
      `build/${id}`,
    ]);
    await postgres.stop();
    await waitUntil(async () => expect(Date.now()).toBeGreaterThan(Number(lease[0]?.expires_at) + RENEWED_MS));
    await postgres.start();
    for (const { address } of [owner, other]) await waitUntil(() => checkUrl(`http://${address}/health/ready`));
    back.resolve();
    release();
    const answers = await Promise.all(pulls);
    expect(answers[0]?.[0]).toBe(200);
    expect(answers[1]).toEqual(answers[0]);
    const [build, ...more] = await listBuilds(other, 'local/tools/away');
    const stored = await (await send(other, `/v1alpha1/builds/${id}/logs`)).text();
    expect(await Promise.all(logs)).toEqual([stored, stored]);
    expect(stored).toContain('succeeded');
    expect([build, more]).toMatchObject([{ buildId: id, starts: 1, succeeded: true }, []]);
  });

  test('a build is cancelled at the one that does not run it, and who waits is told', async () => {
    const release = holdBlobs('library/other');
    const pull = send(a, '/v2/local/tools/other/manifests/1');
    const { id, owner, other } = await findOwner('local/tools/other');
    const cancelled = await send(other, `/v1alpha1/builds/${id}/cancel`, { method: 'POST' });
    expect(await cancelled.text()).toContain('cancelled');
    release();
    expect([(await pull).status, await (await pull).text()]).toEqual([404, expect.stringContaining(id)]);
    expect(await (await send(owner, `/v1alpha1/builds/${id}/status`)).json()).toMatchObject({ succeeded: false });
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
