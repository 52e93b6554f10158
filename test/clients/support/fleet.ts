// Three Veneers at one PostgreSQL and one bucket, and nginx before them, as deploy/nginx-replicas.conf has it.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startRegistry, type TestRegistry } from '../../support/registry.ts';
import { OBJECT_STORE_COMMANDS, OBJECT_STORE_KEY, type ObjectServer, startObjectStore } from './object-store.ts';
import { POSTGRES_COMMANDS, type Postgres, startPostgres } from './postgres.ts';
import { checkUrl, findFreePort, type Killable, run, startProcess } from './process.ts';

export const FLEET_COMMANDS = [...POSTGRES_COMMANDS, ...OBJECT_STORE_COMMANDS, 'nginx'];

const REPLICAS = ['a', 'b', 'c'];

export interface Fleet {
  /** Where nginx listens, on the loopback. */
  readonly port: number;
  /** The header of one who may do everything, and its parts. */
  readonly authorization: string;
  readonly username: string;
  readonly password: string;
  /** The upstream `lab`. */
  readonly registry: TestRegistry;
  readonly postgres: Postgres;
  readonly replicas: readonly Replica[];
  readonly folder: string;
  readonly objects: ObjectServer;
  /** The requests so far: which replicas were asked for each of them, one after another, and how the last answered. */
  readAccess(): Promise<readonly Access[]>;
  close(): Promise<void>;
}

interface Replica {
  readonly address: string;
  /** As a crash of its machine: with SIGKILL. */
  kill(): Promise<void>;
  /** Waits until it is ready. */
  start(): Promise<void>;
  /** Removes all that it has for itself. */
  clear(): Promise<void>;
  readOutput(): string;
}

interface Access {
  readonly addresses: readonly string[];
  readonly status: number;
}

export async function startFleet(settings: object = {}): Promise<Fleet> {
  // What was started is stopped where the rest does not start.
  await using stack = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), 'veneer-fleet-'));
  stack.defer(() => rm(folder, { recursive: true }));
  const [postgres, objects, registry] = await Promise.all([startPostgres(), startObjectStore(), startRegistry()]);
  for (const server of [postgres, objects, registry]) stack.defer(() => server.close());
  const shared = {
    upstreams: { lab: { url: registry.url } },
    state: { postgres: { url: postgres.url, replicas: true } },
    content: { s3: { endpoint: objects.endpoint, bucket: objects.bucket, upstreams: true } },
    trustedProxies: { addresses: ['127.0.0.1'] },
    access: { credentialKeys: ['the same thirty-two characters !'] },
    builds: { backends: ['embedded'] },
    ...settings,
  };
  const replicas = await Promise.all(REPLICAS.map(name => createReplica(folder, name, shared)));
  for (const replica of replicas) stack.defer(() => replica.kill());
  // The first one makes the schema.
  await replicas[0]?.start();
  const others = await Promise.allSettled(replicas.slice(1).map(replica => replica.start()));
  for (const other of others) if (other.status === 'rejected') throw other.reason;
  const rights = ['--pull', '**', '--push', '**', '--delete', '**'];
  const create = ['--config', join(folder, 'a.yaml'), 'token', 'create', '--json', ...rights];
  const { token } = JSON.parse(await run(process.execPath, ['src/main.ts', ...create], { env: OBJECT_STORE_KEY }));
  const balancer = await startBalancer(folder, replicas);
  stack.defer(() => balancer.process.stop());
  const running = stack.move();

  return {
    ...{ folder, objects, postgres, registry, replicas, port: balancer.port },
    ...{ username: 'ci', password: token, authorization: `Basic ${Buffer.from(`ci:${token}`).toString('base64')}` },
    async readAccess() {
      const lines = (await readFile(join(folder, 'access.log'), 'utf8')).trim().split('\n');
      return lines.map(line => {
        const [status = '', addresses = ''] = line.split('|');
        return { status: Number(status), addresses: addresses.split(', ') };
      });
    },
    close: () => running.disposeAsync(),
  };
}

async function createReplica(folder: string, name: string, settings: object): Promise<Replica> {
  const dataDir = join(folder, name);
  const config = join(folder, `${name}.yaml`);
  await writeFile(config, JSON.stringify({ dataDir, ...settings }));
  const address = `127.0.0.1:${await findFreePort()}`;
  let running: Killable | undefined;
  return {
    address,
    async kill() {
      await running?.kill();
    },
    async start() {
      running = await startProcess(process.execPath, ['src/main.ts', '--config', config, '--listen', address], {
        env: OBJECT_STORE_KEY,
        checkReady: () => checkUrl(`http://${address}/health/ready`),
      });
    },
    async clear() {
      await rm(dataDir, { recursive: true });
    },
    readOutput: () => running?.readOutput() ?? '',
  };
}

/** As the sample has it, but without TLS. */
async function startBalancer(folder: string, replicas: readonly Replica[]) {
  const sample = await readFile('deploy/nginx-replicas.conf', 'utf8');
  const [server = ''] = /^ *server \S+ max_fails.*$/m.exec(sample) ?? [];
  const servers = replicas.map(({ address }) => server.replace(/\S+(?= max_fails)/, address));
  const port = await findFreePort();
  const own = sample
    .replace(/^(?: *server \S+ max_fails.*\n)+/m, `${servers.join('\n')}\n`)
    .replace('listen 443 ssl', `listen 127.0.0.1:${port}`)
    .replaceAll(/^ *ssl_.*$/gm, '');
  return { port, process: await startNginx(folder, { port, own }) };
}

/** With one worker, so that replicas take turns strictly. `own` is what is in its block `http`; its files are in the folder. */
export async function startNginx(folder: string, { port, own }: { readonly port: number; readonly own: string }) {
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  const temporary = paths.map(name => `${name}_temp_path ${folder}/${name};`).join(' ');
  const log = `log_format turns '$status|$upstream_addr'; access_log ${folder}/access.log turns;`;
  const file = join(folder, 'nginx.conf');
  const main = `pid ${folder}/nginx.pid; daemon off; error_log stderr; worker_processes 1; events {}`;
  await writeFile(file, `${main}\nhttp { ${log} ${temporary}\n${own} }\n`);
  const checkReady = () => checkUrl(`http://127.0.0.1:${port}/health/live`);
  return await startProcess('nginx', ['-p', folder, '-c', file], { checkReady });
}
