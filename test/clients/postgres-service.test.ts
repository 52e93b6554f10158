// Veneer with its records in a real PostgreSQL: what clients see of it, also while the database is away.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { findMissingTools } from './support/clients.ts';
import { POSTGRES_COMMANDS, type Postgres, startPostgres } from './support/postgres.ts';
import { checkUrl, findFreePort, type Killable, run, startProcess, waitUntil } from './support/process.ts';

const missing = findMissingTools(POSTGRES_COMMANDS);
const RAW = Buffer.from('what an upstream has');
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';

describe.skipIf(missing)(`a service on PostgreSQL${missing ? ` (${missing})` : ''}`, { timeout: 120_000 }, () => {
  let postgres: Postgres;
  let registry: TestRegistry;
  let folder: string;
  let address: string;
  let config: string;
  let veneer: Killable;

  beforeAll(async () => {
    postgres = await startPostgres();
    registry = await startRegistry();
    registry.put('library/app', [{ mediaType: 'application/octet-stream', raw: RAW }]);
    folder = await mkdtemp(join(tmpdir(), 'veneer-postgres-service-'));
    address = `127.0.0.1:${await findFreePort()}`;
    config = await configure('one');
    veneer = await start();
  }, 120_000);

  afterAll(async () => {
    await veneer?.kill();
    await registry?.close();
    await postgres?.close();
    if (folder) await rm(folder, { recursive: true });
  }, 60_000);

  async function configure(name: string): Promise<string> {
    const settings = {
      dataDir: join(folder, name),
      upstreams: { lab: { url: registry.url } },
      state: { postgres: { url: postgres.url } },
      builds: { backends: ['embedded'] },
    };
    const path = join(folder, `${name}.yaml`);
    await writeFile(path, JSON.stringify(settings));
    return path;
  }

  const start = () =>
    startProcess(process.execPath, ['src/main.ts', '--config', config, '--listen', address], {
      checkReady: () => checkUrl(`http://${address}/health/ready`),
    });

  const send = (path: string, init: RequestInit = {}) => fetch(`http://${address}${path}`, init);

  async function push(text: string): Promise<Response> {
    const body = Buffer.from(text);
    return send(`/v2/local/app/blobs/uploads/?digest=${digestOf(body)}`, { method: 'POST', body });
  }

  async function pushTag(tag: string): Promise<number> {
    expect((await push('{}')).status).toBe(201);
    const descriptor = {
      mediaType: 'application/vnd.oci.image.config.v1+json',
      digest: digestOf(Buffer.from('{}')),
      size: 2,
    };
    const body = JSON.stringify({ schemaVersion: 2, mediaType: MANIFEST, config: descriptor, layers: [] });
    const response = await send(`/v2/local/app/manifests/${tag}`, {
      method: 'PUT',
      headers: { 'content-type': MANIFEST },
      body,
    });
    return response.status;
  }

  const pull = (path: string) => send(path).then(({ status }) => status);
  const readiness = () => send('/health/ready').then(async response => [response.status, await response.json()]);

  test('keeps what was pushed over a kill', async () => {
    expect(await pushTag('v1')).toBe(201);
    await veneer.kill();
    veneer = await start();
    expect(await pull('/v2/local/app/manifests/v1')).toBe(200);
    expect(await postgres.query('SELECT DISTINCT collection FROM veneer.records')).not.toEqual([]);
  });

  test('takes an access token that a command has made beside it', async () => {
    const token = ['token', 'create', '--pull', '**', '--config', config];
    expect(await run(process.execPath, ['src/main.ts', ...token])).toMatch(/^vnr_/);
    expect(await run(process.execPath, ['src/main.ts', 'token', 'list', '--config', config])).toContain('unnamed');
  });

  test('has its garbage collected by a command, through the service and without it', async () => {
    const collect = () =>
      run(process.execPath, ['src/main.ts', 'gc', '--dry-run', '--json', '--config', config, '--listen', address]);
    expect(JSON.parse(await collect())).toHaveProperty('removed');
    await veneer.kill();
    expect(JSON.parse(await collect())).toHaveProperty('removed');
    veneer = await start();
  });

  test.each([
    ['/v2/_catalog?last=%00', 200],
    ['/v2/local/app/tags/list?last=%00', 200],
    ['/v2/local/app/blobs/uploads/%00', 404],
    [`/v2/local/app/blobs/uploads/${'a'.repeat(4000)}`, 404],
    ['/v1alpha1/builds/a%00b', 404],
    ['/v1alpha1/scans/a%00b', 404],
  ])('finds nothing by names that the database does not take: %s', async (path, status) => {
    expect(await pushTag('v1')).toBe(201);
    expect(await pull(path)).toBe(status);
  });

  test('is the only one that holds the records', async () => {
    const second = await configure('two');
    const options = ['src/main.ts', '--config', second, '--listen', `127.0.0.1:${await findFreePort()}`];
    await expect(run(process.execPath, options)).rejects.toThrow(
      'another Veneer holds the records of the schema veneer: stop it, name another schema, or set state.postgres.replicas for both',
    );
  });

  test('is needed for a start, which says where it was looked for', async () => {
    const port = await findFreePort();
    const path = join(folder, 'away.yaml');
    const url = `postgres://veneer:hush@127.0.0.1:${port}/records`;
    await writeFile(path, JSON.stringify({ dataDir: join(folder, 'away'), state: { postgres: { url } } }));
    const started = run(process.execPath, ['src/main.ts', '--config', path, '--listen', '127.0.0.1:0']);
    const error = await started.catch(error => error);
    const reason = 'the database of the records does not answer (ECONNREFUSED)';
    expect(error.message).toContain(`${reason}: start 127.0.0.1:${port}/records, or correct state.postgres.url`);
    expect(error.message).not.toContain('hush');
  });

  test('answers 503 with a reason while the database is away, continues with what needs no record, and recovers', async () => {
    const blob = `/v2/lab/library/app/blobs/${digestOf(RAW)}`;
    expect(await pull(blob)).toBe(200);
    await postgres.stop();
    const refused = await push('while it is away');
    expect([refused.status, refused.headers.get('retry-after'), await refused.text()]).toEqual([
      503,
      '5',
      expect.stringContaining('the database of the records does not answer'),
    ]);
    expect(await pull('/health/live')).toBe(200);
    await waitUntil(async () =>
      expect(await readiness()).toMatchObject([
        503,
        {
          reason: expect.stringMatching(/^the database of the records does not answer \(/),
          parts: [{ part: 'records', fault: 'operator', status: 'DOWN' }],
        },
      ]),
    );
    expect(await pull(blob)).toBe(200);
    // What was read a moment ago may be cached until the lost connection is noticed.
    await waitUntil(async () => expect(await pull('/v2/local/app/manifests/v1')).toBe(503));
    // Whether it belongs to a derived image is not known: 404 would end the pull for good.
    expect(await pull(`/v2/lab/library/app/blobs/${digestOf(Buffer.from('unknown'))}`)).toBe(503);
    await postgres.start();
    await waitUntil(async () => expect(await readiness()).toMatchObject([200, { status: 'UP' }]));
    expect(await pushTag('v2')).toBe(201);
    expect(await pull('/v2/local/app/manifests/v1')).toBe(200);
    const output = veneer.readOutput();
    expect(output).not.toMatch(/unhandled|internal error/i);
    const { host, pathname } = new URL(postgres.url);
    expect(output).toContain(`"server":"${host}${pathname}","reason":"the database of the records does not answer (`);
    expect(output).toContain('the database of the records answers again');
  });
});
