// `veneer migrate` between a file and a real PostgreSQL: killed and run again, refused beside a service, and there and back.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { cp, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SHARED_SECRETS } from '../../src/access/keys.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { createSqliteStore } from '../../src/state/sqlite.ts';
import { findMissingTools } from './support/clients.ts';
import { POSTGRES_COMMANDS, type Postgres, startPostgres } from './support/postgres.ts';
import { checkUrl, findFreePort, run, startProcess, waitUntil } from './support/process.ts';

const missing = findMissingTools(POSTGRES_COMMANDS);
const BLOB = Buffer.from('pushed before the records move');
const MANY = 20_000;

describe.skipIf(missing)(`veneer migrate${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
  let postgres: Postgres;
  let folder: string;
  let address: string;

  beforeAll(async () => {
    postgres = await startPostgres();
    folder = await mkdtemp(join(tmpdir(), 'veneer-migrate-'));
    address = `127.0.0.1:${await findFreePort()}`;
  }, 120_000);

  afterAll(async () => {
    await postgres?.close();
    if (folder) await rm(folder, { recursive: true });
  }, 60_000);

  /** The same data directory, with its records in the database or in its file. */
  async function configure(name: string, dataDir: string, isDatabase: boolean): Promise<string> {
    const state = isDatabase ? { postgres: { url: postgres.url, schema: name } } : {};
    const path = join(folder, `${basename(dataDir)}-${isDatabase ? 'database' : 'file'}.yaml`);
    await writeFile(path, JSON.stringify({ dataDir, state, builds: { backends: ['embedded'] } }));
    return path;
  }

  const start = (config: string) =>
    startProcess(process.execPath, ['src/main.ts', '--config', config, '--listen', address], {
      checkReady: () => checkUrl(`http://${address}/health/ready`),
    });
  const command = (config: string, from: string, to: string) => [
    ...['src/main.ts', '--config', config, 'migrate'],
    ...['--from', from, '--to', to, '--json'],
  ];
  const migrate = (config: string, from: string, to: string) =>
    run(process.execPath, command(config, from, to)).then(text => JSON.parse(text));
  const pull = () => fetch(`http://${address}/v2/local/app/blobs/${digestOf(BLOB)}`).then(({ status }) => status);

  async function push(config: string): Promise<void> {
    const service = await start(config);
    const uploads = `http://${address}/v2/local/app/blobs/uploads/?digest=${digestOf(BLOB)}`;
    expect((await fetch(uploads, { method: 'POST', body: BLOB })).status).toBe(201);
    await service.stop();
  }

  test('moves all records there and back, with what refers to content, and refuses what it would overwrite', async () => {
    const dataDir = join(folder, 'there-and-back');
    const [file, database] = [await configure('back', dataDir, false), await configure('back', dataDir, true)];
    await expect(migrate(file, 'sqlite', 'postgres')).rejects.toThrow('set state.postgres.url');
    await expect(migrate(database, 'sqlite', 'postgres')).rejects.toThrow('there are no records in');
    await push(file);
    const records = createSqliteStore({ path: join(dataDir, 'records.db') });
    await records.put('linked', 'of the cache', Buffer.from('{}'));
    await records.close();

    const there = await migrate(database, 'sqlite', 'postgres');
    expect(there).toMatchObject({ from: 'sqlite', to: 'postgres', digest: expect.stringMatching(/^[0-9a-f]{64}$/) });
    expect(existsSync(join(dataDir, 'records.db'))).toBe(false);
    const service = await start(database);
    expect(await pull()).toBe(200);
    await expect(migrate(database, 'postgres', 'sqlite')).rejects.toThrow('another Veneer process is using');
    const other = await configure('back', join(folder, 'other'), true);
    await expect(migrate(other, 'postgres', 'sqlite')).rejects.toThrow('another Veneer holds the records');
    await service.stop();

    const aside = (await readdir(dataDir)).find(name => name.startsWith('records.db.before-')) ?? '';
    await cp(join(dataDir, aside), join(dataDir, 'records.db'));
    await expect(migrate(database, 'sqlite', 'postgres')).rejects.toThrow(/the database was not changed: .*of its own/);
    await expect(migrate(database, 'postgres', 'sqlite')).rejects.toThrow(/records.db was not changed.*of its own/);
    await rm(join(dataDir, 'records.db'));

    const back = await migrate(database, 'postgres', 'sqlite');
    // The service has added the secrets that processes at one database share.
    const count = there.count + Object.keys(SHARED_SECRETS).length;
    expect(back).toMatchObject({ from: 'postgres', to: 'sqlite', count });
    const again = await start(file);
    expect(await pull()).toBe(200);
    await again.stop();
    const final = createSqliteStore({ path: join(dataDir, 'records.db') });
    expect([final.condition.kind, await final.list('linked', { limit: 10 })]).toEqual(['whole', ['of the cache']]);
    await final.close();
  });

  test('continues where a run was killed, and no service starts on a part of the records', async () => {
    const dataDir = join(folder, 'killed');
    const database = await configure('killed', dataDir, true);
    const records = createSqliteStore({ path: join(dataDir, 'records.db') });
    const keys = Array.from({ length: MANY }, (_, at) => `${at}`);
    await records.write(keys.map(key => ({ kind: 'put', collection: 'usage', key, value: Buffer.alloc(200, key) })));
    await records.close();

    const killed = spawn(process.execPath, command(database, 'sqlite', 'postgres'), { stdio: 'ignore' });
    const ended = once(killed, 'exit');
    const count = () => postgres.query('SELECT count(*) FROM killed.records').then(([row]) => Number(row?.count));
    await waitUntil(async () => expect(await count()).toBeGreaterThan(100));
    killed.kill('SIGKILL');
    expect(await ended).toEqual([null, 'SIGKILL']);
    expect(await count()).toBeLessThan(MANY + 1);

    const service = run(process.execPath, ['src/main.ts', '--config', database, '--listen', address]);
    await expect(service).rejects.toThrow('the copy of the records in schema killed of the database is incomplete');
    const others = join(folder, 'others');
    const theirs = createSqliteStore({ path: join(others, 'records.db') });
    await theirs.put('usage', 'a', Buffer.from('{}'));
    await theirs.close();
    await expect(migrate(await configure('killed', others, true), 'sqlite', 'postgres')).rejects.toThrow(
      'an incomplete copy of other records',
    );

    expect(await migrate(database, 'sqlite', 'postgres')).toMatchObject({ count: MANY });
    expect(await count()).toBe(MANY);
    await (await start(database)).stop();
  });
});
