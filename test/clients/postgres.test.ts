// Records in a real PostgreSQL: the contract, what it does when the server is away, and that one process at a time holds them.
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { createMemory } from '../../src/memory.ts';
import { openPostgresStore, type PostgresStore } from '../../src/state/postgres.ts';
import { locksContract } from '../contract/locks.ts';
import { recordStoreContract } from '../contract/record-store.ts';
import { createDiskEnvironment } from '../hosted/gc/environment.ts';
import { expectTold, runScenarios, withoutGrace } from '../hosted/gc/plots.ts';
import { findMissingTools } from './support/clients.ts';
import { POSTGRES_COMMANDS, type Postgres, startPostgres } from './support/postgres.ts';
import { waitUntil } from './support/process.ts';

const missing = findMissingTools(POSTGRES_COMMANDS);

describe.skipIf(missing)(`PostgreSQL${missing ? ` (${missing})` : ''}`, () => {
  let postgres: Postgres;
  let schemas = 0;
  let directory: string;

  beforeAll(async () => {
    postgres = await startPostgres();
  }, 120_000);

  afterAll(() => postgres?.close(), 60_000);

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'veneer-state-'));
  });

  afterEach(() => rm(directory, { recursive: true }));

  const newSchema = () => `veneer_${schemas++}`;
  const open = (schema: string, options: Partial<Parameters<typeof openPostgresStore>[0]> = {}) =>
    openPostgresStore({
      ...{ url: postgres.url, schema, directory },
      maxConnections: 4,
      memory: createMemory(),
      ...options,
    });

  async function use(schema = newSchema()): Promise<PostgresStore> {
    const store = await open(schema);
    onTestFinished(() => store.close());
    return store;
  }

  const bytes = (text: string) => new TextEncoder().encode(text);
  async function read(store: PostgresStore, key: string): Promise<string | undefined> {
    const value = await store.get('tags', key);
    return value && new TextDecoder().decode(value);
  }

  describe('contract', () => {
    recordStoreContract(({ now }) => open(newSchema(), { now }));
  });

  describe('locks', () => {
    locksContract(async ({ now }) => {
      const schema = newSchema();
      return [await open(schema, { now, isShared: true }), await open(schema, { now, isShared: true })];
    });
  });

  test('finds its records after a restart', async () => {
    const schema = newSchema();
    const before = await open(schema);
    await before.put('tags', 'a', bytes('one'));
    await before.close();
    expect(await read(await use(schema), 'a')).toBe('one');
  });

  test('reads a cached record once, and again after each change of it', async () => {
    const schema = newSchema();
    const store = await use(schema);
    await store.put('tags', 'a', bytes('one'));
    expect(await read(store, 'a')).toBe('one');
    await waitUntil(async () => {
      // Behind its back, without an announcement.
      await postgres.query(`UPDATE ${schema}.records SET value = 'two'`);
      await read(store, 'a');
      await postgres.query(`UPDATE ${schema}.records SET value = 'three'`);
      expect(await read(store, 'a')).toBe('two');
    });
    await postgres.query(`SELECT pg_notify('veneer_${schema}', '["tags/a"]')`);
    await waitUntil(async () => expect(await read(store, 'a')).toBe('three'));
    await store.put('tags', 'a', bytes('four'));
    expect(await read(store, 'a')).toBe('four');
    await store.delete('tags', 'a');
    expect(await read(store, 'a')).toBeUndefined();
  });

  test('finds what another process has put before its announcement arrives, although there was nothing before', async () => {
    const schema = newSchema();
    const store = await use(schema);
    expect(store.version()).toBeTypeOf('number');
    expect(await read(store, 'a')).toBeUndefined();
    await postgres.query(`INSERT INTO ${schema}.records (collection, key, value) VALUES ('tags', 'a', 'one')`);
    expect(await read(store, 'a')).toBe('one');
  });

  test('expires a cached record by the clock of the server', async () => {
    const store = await use();
    await store.put('tags', 'a', bytes('one'), { expiresAt: new Date(Date.now() + 3000) });
    expect(await read(store, 'a')).toBe('one');
    await waitUntil(async () => expect(await read(store, 'a')).toBeUndefined());
  });

  test('announces what is too much to be named as a whole', async () => {
    const store = await use();
    const key = (at: number) => `${at}`.padStart(200, 'k');
    const changes = Array.from(
      { length: 100 },
      (_, at) => ({ kind: 'put', collection: 'tags', key: key(at) }) as const,
    );
    await store.write(changes.map(change => ({ ...change, value: bytes('one') })));
    expect(await read(store, key(99))).toBe('one');
    await store.write(changes.map(change => ({ ...change, value: bytes('two') })));
    expect(await read(store, key(99))).toBe('two');
  });

  test('changes its version with every change, and has none while the connection that hears of changes is lost', async () => {
    const schema = newSchema();
    const store = await use(schema);
    const first = store.version();
    expect(first).toBeTypeOf('number');
    await store.put('tags', 'a', bytes('one'));
    expect(store.version()).not.toBe(first);
    const second = store.version();
    await postgres.query(`SELECT pg_notify('veneer_${schema}', '["tags/b"]')`);
    await waitUntil(async () => expect(store.version()).not.toBe(second));
    expect(await read(store, 'a')).toBe('one');
    await postgres.query(`SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'`);
    await postgres.query(`UPDATE ${schema}.records SET value = 'two'`);
    // Nobody announced it.
    await waitUntil(async () => expect(await read(store, 'a')).toBe('two'));
    await waitUntil(async () => expect(store.version()).toBeTypeOf('number'));
  });

  test('concurrent changes of the same records, in any order, all succeed', async () => {
    const store = await use();
    const keys = Array.from({ length: 20 }, (_, at) => `${at}`);
    const change = (round: number) => {
      const ordered = round % 2 === 0 ? keys : keys.toReversed();
      return store.write(ordered.map(key => ({ kind: 'put', collection: 'tags', key, value: bytes(`${round}`) })));
    };
    await Promise.all(Array.from({ length: 50 }, (_, round) => change(round)));
    const entries = await store.entries('tags', { limit: 100 });
    expect(new Set(entries.map(({ value }) => new TextDecoder().decode(value))).size).toBe(1);
  });

  test('makes do with the connections that it has where the server gives no more', async () => {
    const schema = newSchema();
    await postgres.query(`CREATE ROLE ${schema} LOGIN CONNECTION LIMIT 3`);
    await postgres.query(`GRANT CREATE ON DATABASE postgres TO ${schema}`);
    const url = postgres.url.replace('veneer@', `${schema}@`);
    const store = await open(schema, { url, maxConnections: 10 });
    onTestFinished(() => store.close());
    const keys = Array.from({ length: 100 }, (_, at) => `${at}`);
    await Promise.all(keys.map(key => store.put('tags', key, bytes(key))));
    expect(await store.list('tags', { limit: 1000 })).toHaveLength(100);
    expect(store.findFault()).toBeUndefined();
  });

  test('does with one connection, whatever comes at once', async () => {
    const store = await open(newSchema(), { maxConnections: 1, isShared: true });
    onTestFinished(() => store.close());
    const keys = Array.from({ length: 40 }, (_, at) => `${at}`);
    const writeUnderLock = (key: string) =>
      store.locks.withLock(`lock/${Number(key) % 10}`, async ({ fence }) => {
        expect(await read(store, key)).toBeUndefined();
        await store.write([{ kind: 'put', collection: 'tags', key, value: bytes(key) }], { expected: fence });
        return read(store, key);
      });
    expect(await Promise.all(keys.map(writeUnderLock))).toEqual(keys);
  });

  test('is held by one process, which the next one takes it from when it has ended', async () => {
    const schema = newSchema();
    const store = await use(schema);
    await expect(open(schema)).rejects.toThrow(`another Veneer holds the records of the schema ${schema}`);
    // Its lock is gone, as after a partition of the network, and another process comes first.
    let next: PostgresStore | undefined;
    await waitUntil(async () => {
      await postgres.query(`SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'`);
      next = await open(schema);
    });
    onTestFinished(() => next?.close());
    await expect(store.put('tags', 'a', bytes('late'))).rejects.toThrow('another Veneer holds the records by now');
    await expect(store.delete('tags', 'a')).rejects.toThrow('another Veneer holds the records by now');
    expect(store.findFault()).toContain('another Veneer');
    await next?.put('tags', 'a', bytes('new'));
    expect(await read(store, 'a')).toBe('new');
  });

  test('is shared by those that say so, and by nobody else', async () => {
    const schema = newSchema();
    const share = async () => {
      const store = await open(schema, { isShared: true });
      onTestFinished(() => store.close());
      return store;
    };
    const alone = await open(schema);
    await expect(open(schema, { isShared: true })).rejects.toThrow('does not share them (state.postgres.replicas)');
    await alone.close();
    const [first, second] = await Promise.all([share(), share()]);
    await expect(open(schema)).rejects.toThrow('another Veneer holds the records');
    await first.put('tags', 'a', bytes('one'));
    expect(await read(second, 'a')).toBe('one');
    await second.put('tags', 'a', bytes('two'));
    await waitUntil(async () => expect(await read(first, 'a')).toBe('two'));
    // Its lock passes on in the moment in which it is released, regardless of who holds it.
    const order: string[] = [];
    const held = Promise.withResolvers<void>();
    const done = first.locks.withLock('a', async () => {
      order.push('first');
      held.resolve();
      await second.list('tags', { limit: 1 });
      order.push('first ends');
    });
    await held.promise;
    await second.locks.withLock('a', async () => void order.push('second'));
    await done;
    expect(order).toEqual(['first', 'first ends', 'second']);
    // A process that shared them before writes nothing after one that had them alone.
    await waitUntil(async () => {
      await postgres.query(`SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'`);
      await (await open(schema)).close();
    });
    await expect(first.put('tags', 'a', bytes('late'))).rejects.toThrow('another Veneer holds the records by now');
    await expect(
      first.write([], { expected: [{ collection: 'tags', key: 'a', value: bytes('two') }] }),
    ).rejects.toThrow('another Veneer holds the records by now');
  });

  test('a process reads under a lock what others wrote under it, also where it has not yet heard of that', async () => {
    const schema = newSchema();
    const near = await open(schema, { isShared: true });
    const slow = await startSlowWay(postgres.url);
    const far = await open(schema, { isShared: true, url: slow.url });
    onTestFinished(async () => {
      await Promise.all([near.close(), far.close()]);
      await slow.close();
    });
    await near.put('tags', 'a', bytes('one'));
    const isCached = async () => {
      await read(far, 'a');
      await postgres.query(`UPDATE ${schema}.records SET value = 'one' WHERE collection = 'tags'`);
      return (await read(far, 'a')) === 'one';
    };
    await waitUntil(async () => expect(await isCached()).toBe(true));
    slow.hold();
    await near.locks.withLock('a', ({ fence }) =>
      near.write([{ kind: 'put', collection: 'tags', key: 'a', value: bytes('two') }], { expected: fence }),
    );
    let isOver = false;
    const found = far.locks
      .withLock('a', () => read(far, 'a'))
      .finally(() => {
        isOver = true;
      });
    const leases = `SELECT key FROM ${schema}.records WHERE collection = 'lease'`;
    // It gives up hearing after a second, and then it caches nothing.
    await waitUntil(async () => expect(isOver || (await postgres.query(leases)).length).toBeTruthy());
    slow.release();
    expect(await found).toBe('two');
  });

  test('hosted repositories of two processes lose nothing, also when one of them dies', async () => {
    const createEnvironment = async () => {
      const schema = newSchema();
      let time = Date.UTC(2030, 0, 1);
      const now = () => new Date(time);
      const records = await open(schema, { now, isShared: true });
      const other = await open(schema, { now, isShared: true });
      const environment = await createDiskEnvironment(() => records);
      const remove = () => other.close().then(environment.remove);
      const expireLeases = () => {
        time += 3_600_000;
      };
      return { ...environment, remove, replicas: { records: [records, other], expireLeases } };
    };
    await runScenarios(withoutGrace, { createEnvironment, check: expectTold, numRuns: 5 });
  });

  test('lets a command in beside the service, which sees what it writes', async () => {
    const schema = newSchema();
    const store = await use(schema);
    expect(await read(store, 'a')).toBeUndefined();
    const guest = await open(schema, { isGuest: true });
    await guest.put('tags', 'a', bytes('one'));
    await guest.close();
    await waitUntil(async () => expect(await read(store, 'a')).toBe('one'));
    await store.put('tags', 'a', bytes('two'));
  });

  describe('and the content of a data directory', () => {
    const conditionOf = async (schema: string) => {
      const store = await open(schema);
      await store.close();
      return store.condition.kind;
    };

    test('belong together from the first start on', async () => {
      const schema = newSchema();
      expect([await conditionOf(schema), await conditionOf(schema)]).toEqual(['whole', 'whole']);
      const other = newSchema();
      expect([await conditionOf(other), await conditionOf(other), await conditionOf(schema)]).toEqual([
        'gone',
        'other',
        'whole',
      ]);
      await rm(join(directory, 'acknowledged.json'));
      expect(await conditionOf(other)).toBe('whole');
    });

    test('do not where it has bytes that were pushed with other records', async () => {
      await mkdir(join(directory, 'hosted/blobs/sha256/ab'), { recursive: true });
      await writeFile(join(directory, 'hosted/blobs/sha256/ab/blob'), 'bytes');
      const schema = newSchema();
      expect([await conditionOf(schema), await conditionOf(schema)]).toEqual(['gone', 'other']);
    });
  });

  test('waits for another process that migrates them for longer than any statement may take', async () => {
    const schema = newSchema();
    const migrating = new pg.Client({ connectionString: postgres.url });
    migrating.on('error', () => {});
    await migrating.connect();
    await migrating.query('SELECT pg_advisory_lock(hashtextextended($1, 0))', [`veneer_${schema}_migration`]);
    const opening = open(schema, { url: `${postgres.url}?statement_timeout=3000` });
    opening.catch(() => {});
    const waits = `SELECT FROM pg_stat_activity WHERE wait_event = 'advisory' AND now() - query_start > '4 s'`;
    await Promise.race([opening, waitUntil(async () => expect(await postgres.query(waits)).toHaveLength(1))]);
    await migrating.end();
    const store = await opening;
    await store.put('tags', 'a', bytes('one'));
    await store.close();
  });

  test('refuses the records of a newer release', async () => {
    const schema = newSchema();
    await (await open(schema)).close();
    await postgres.query(`INSERT INTO ${schema}.migrations VALUES (99)`);
    await expect(open(schema)).rejects.toThrow('has version 99, of a newer Veneer');
  });

  test('names what is wrong with a server, and shows no password', async () => {
    const at = (url: string) =>
      openPostgresStore({ url, schema: newSchema(), directory, maxConnections: 1, memory: createMemory() }).then(
        () => 'opened',
        error => String(error.message),
      );
    expect(await at('postgres://veneer:hush@127.0.0.1:1/postgres')).toBe(
      'the database of the records does not answer (ECONNREFUSED)',
    );
    expect(await at(postgres.url.replace('/postgres', '/absent').replace('veneer@', 'veneer:hush@'))).toBe(
      'the database of the records refuses Veneer: database "absent" does not exist: create it, or correct state.postgres.url',
    );
    await postgres.query('CREATE ROLE reader LOGIN');
    expect(await at(postgres.url.replace('veneer@', 'reader@'))).toBe(
      'the database of the records refuses Veneer: permission denied for database postgres: the role needs CREATE on the database, or a schema that it owns',
    );
  });

  test('a server that goes and comes costs no acknowledged write and no restart', { timeout: 120_000 }, async () => {
    const schema = newSchema();
    const faults: (string | undefined)[] = [];
    const store = await open(schema, { onFault: fault => faults.push(fault) });
    onTestFinished(() => store.close());
    const acknowledged = new Map<string, string>();
    const failures = new Set<string>();
    let isOver = false;
    const writers = Array.from({ length: 4 }, async (_, writer) => {
      for (let at = 0; !isOver; at += 1) {
        try {
          await store.put('tags', `${writer}-${at % 10}`, bytes(`${at}`));
          acknowledged.set(`${writer}-${at % 10}`, `${at}`);
        } catch (error) {
          failures.add(error instanceof Error ? error.name : String(error));
          await setTimeout(20);
        }
      }
    });
    await waitUntil(async () => expect(acknowledged.size).toBe(40));
    await postgres.stop();
    await waitUntil(async () => expect(store.findFault()).toContain('does not answer'));
    await waitUntil(async () => expect(store.version()).toBeUndefined());
    await expect(store.get('tags', 'never read')).rejects.toMatchObject({ code: 'ERECORDSAWAY' });
    await postgres.start();
    acknowledged.clear();
    await waitUntil(async () => expect(acknowledged.size).toBe(40));
    isOver = true;
    await Promise.all(writers);
    expect([...failures]).toEqual(['RecordStoreAway']);
    await waitUntil(async () => expect(store.findFault()).toBeUndefined());
    // Told once for each reason, and once that it is back.
    const told = () =>
      faults.map(fault => fault?.replace(/^the database of the records does not answer .*/, 'away') ?? 'back');
    await waitUntil(async () => expect(told().join(' ')).toMatch(/^(?:away )+back$/));
    for (const [key, value] of acknowledged) expect(await read(store, key)).toBe(value);
  });
});

/** A way to the server on which the first connection, that which listens, can be held up from the server to the client. */
async function startSlowWay(url: string) {
  const { hostname, port } = new URL(url);
  let first: { readonly client: Socket; readonly server: Socket } | undefined;
  const way = createServer(client => {
    const server = connect(Number(port), hostname);
    first ??= { client, server };
    for (const [from, to] of [[client, server] as const, [server, client] as const]) {
      from.pipe(to);
      from.on('error', () => to.destroy());
    }
  }).listen(0, '127.0.0.1');
  await once(way, 'listening');
  return {
    url: url.replace(`:${port}`, `:${Object(way.address()).port}`),
    hold: () => first?.server.unpipe(),
    release: () => first?.server.pipe(first.client),
    close: () => new Promise(resolve => way.close(resolve)),
  };
}
