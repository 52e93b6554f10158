// A PostgreSQL server of its own, on a free port, with its files in a folder that the test removes.
import { chown, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { findFreePort, run, startProcess } from './process.ts';

/** Where Debian puts the server's own programs. */
const BIN = '/usr/lib/postgresql/15/bin';
const SERVER = join(BIN, 'postgres');
export const POSTGRES_COMMANDS = [SERVER] as const;

/** Beside it are psql, pg_restore and what else clients have. */
export const PG_DUMP = join(BIN, 'pg_dump');

export interface Postgres {
  readonly url: string;
  /** Runs a statement as an administrator. */
  query(text: string, values?: readonly unknown[]): Promise<readonly Record<string, unknown>[]>;
  start(): Promise<void>;
  /** As `pg_ctl stop -m fast`: connections are ended, and what was acknowledged is there at the next start. */
  stop(): Promise<void>;
  /** Stops it for good, and removes its files. */
  close(): Promise<void>;
}

export async function startPostgres(): Promise<Postgres> {
  const folder = await mkdtemp(join(tmpdir(), 'veneer-postgres-'));
  const data = join(folder, 'data');
  const owner = await findOwner();
  await mkdir(data, { mode: 0o700 });
  for (const path of [folder, data]) if (owner) await chown(path, owner.uid, owner.gid);
  // It refuses to run as root.
  const as = owner ? ['setpriv', `--reuid=${owner.uid}`, `--regid=${owner.gid}`, '--clear-groups', '--'] : [];
  const [initialize = '', ...args] = [
    ...as,
    join(BIN, 'initdb'),
    '-D',
    data,
    '-U',
    'veneer',
    '-A',
    'trust',
    '-E',
    'UTF8',
  ];
  await run(initialize, [...args, '--no-sync', '--locale=C.UTF-8'], { cwd: folder });
  const port = await findFreePort();
  const url = `postgres://veneer@127.0.0.1:${port}/postgres`;
  let server: Awaited<ReturnType<typeof startProcess>> | undefined;

  async function query(text: string, values: readonly unknown[] = []) {
    const client = new pg.Client({ connectionString: url });
    client.on('error', () => {});
    try {
      await client.connect();
      return (await client.query(text, [...values])).rows;
    } finally {
      await client.end();
    }
  }

  const postgres: Postgres = {
    url,
    query,
    async start() {
      // Tests end processes, and never the machine: what the disk has not yet, its kernel has.
      const unsynced = { fsync: 'off', full_page_writes: 'off' };
      const own = { port, listen_addresses: '127.0.0.1', unix_socket_directories: '', logging_collector: 'off' };
      const settings = { ...own, ...unsynced };
      const options = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
      const [command = '', ...rest] = [...as, SERVER, '-D', data, ...options];
      server = await startProcess(command, rest, { cwd: folder, checkReady: () => query('SELECT') });
    },
    async stop() {
      if (server?.pid !== undefined) process.kill(server.pid, 'SIGINT');
      await server?.stop();
      server = undefined;
    },
    async close() {
      await postgres.stop();
      await rm(folder, { recursive: true });
    },
  };
  await postgres.start();
  return postgres;
}

/** The user that runs it where this process is root, as Debian's package has made it. */
async function findOwner(): Promise<{ readonly uid: number; readonly gid: number } | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const [uid, gid] = await Promise.all([run('id', ['-u', 'postgres']), run('id', ['-g', 'postgres'])]);
  return { uid: Number(uid), gid: Number(gid) };
}
