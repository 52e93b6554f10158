// Records in PostgreSQL: one table, as in SQLite's file. Reads are cached, and NOTIFY announces what is written.
import { setTimeout } from 'node:timers/promises';
import type pg from 'pg';
import type { Memory } from '../memory.ts';
import {
  createAcknowledged,
  faultOf,
  hasStoredBytes,
  type RecordsCondition,
  readAcknowledged,
  type ServiceStore,
  WHOLE,
} from './acknowledged.ts';
import { createProcessLocks, createSharedLocks, LEASES } from './locks.ts';
import {
  announcementOf,
  codeOf,
  createListener,
  type Holder,
  idOf,
  loadDriver,
  toError,
  UNCACHED,
} from './postgres-connection.ts';
import { prepareStatements, UNEXPECTED } from './postgres-schema.ts';
import {
  type Change,
  COUNTS,
  compareKeys,
  type Entry,
  type Expectation,
  endOfPrefix,
  type ListOptions,
  RecordConflict,
  type RecordStore,
  RecordStoreAway,
  RecordStoreFailed,
  type WriteOptions,
} from './store.ts';

export interface PostgresStore extends ServiceStore {
  /** Why records currently cannot be read or written, in one line without addresses and credentials; undefined while they can. */
  findFault(): string | undefined;
}

interface PostgresOptions {
  /** postgres://user@host:port/database; the password in it, in PGPASSWORD, or in a pgpass file. */
  readonly url: string;
  /** The schema of the tables, created if absent. Lower-case letters, digits and underscores. */
  readonly schema: string;
  /** How many connections at most; one more listens. */
  readonly maxConnections: number;
  /** In PEM. Absent: as the URL says. */
  readonly tls?: TlsOptions | undefined;
  readonly memory: Memory;
  /** The data directory with the content of these records. */
  readonly directory: string;
  /** Whether to open them beside another process that holds them. The caller must not change records that it works on. */
  readonly isGuest?: boolean;
  /** Whether other processes hold them at the same time, all of which say so: then locks are shared. */
  readonly isShared?: boolean;
  /** For tests. Default: the clock of the server, which all its clients share. */
  readonly now?: () => Date;
  readonly onUnreadable?: RecordStore['onUnreadable'];
  /** Called with each new reason why the server cannot be used, as of `findFault`, and with undefined once it can be again. */
  readonly onFault?: ((reason: string | undefined) => void) | undefined;
}

interface TlsOptions {
  readonly ca?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
}

/**
 * Opens the records, and migrates them to this release. One process at a time holds them, or several that all share them: they have a
 * number, and the writes of an earlier holder fail. Throws RecordStoreHeld where another process has them, RecordStoreFailed for a server
 * that cannot be used, or for records of a newer release. The caller closes the store.
 */
export async function openPostgresStore(options: PostgresOptions): Promise<PostgresStore> {
  const {
    url,
    schema,
    maxConnections,
    tls,
    memory,
    directory,
    isGuest = false,
    isShared = false,
    now,
    onUnreadable,
    onFault,
  } = options;
  const connection: pg.ClientConfig = {
    connectionString: url,
    ...(tls && { ssl: tls }),
    application_name: 'veneer',
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    statement_timeout: STATEMENT_TIMEOUT_MS,
    query_timeout: QUERY_TIMEOUT_MS,
    keepAlive: true,
  };
  const statements = prepareStatements(schema);
  const listener = createListener({
    connection,
    schema,
    memory,
    onFault,
    hold: isGuest ? 'none' : isShared ? 'shared' : 'alone',
  });
  let holder: Holder;
  try {
    holder = await listener.open();
  } catch (error) {
    await listener.close();
    throw toError(error);
  }
  const { Pool } = await loadDriver();
  const pool = new Pool({ ...connection, max: maxConnections, idleTimeoutMillis: IDLE_MS });
  // An idle connection failed: the pool opens another one for the next query.
  pool.on('error', () => {});
  let connections = 0;
  pool.on('connect', () => {
    connections += 1;
  });
  pool.on('remove', () => {
    connections -= 1;
  });
  const time = () => now?.().getTime() ?? null;
  const condition = isGuest ? WHOLE : findCondition(directory, holder);
  let fault: string | undefined;

  /** Where the server has no connection left, the open ones have to do for a while. */
  function makeDo(): void {
    if (connections === 0 || pool.options.max === connections) return;
    pool.options.max = connections;
    void setTimeout(MAKE_DO_MS, undefined, { ref: false }).then(() => {
      pool.options.max = maxConnections;
    });
  }

  /** Runs one statement, which is a transaction of its own. */
  async function query<R extends pg.QueryResultRow>(text: string, values: readonly unknown[]): Promise<readonly R[]> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        const { rows } = await pool.query<R>(text, [...values]);
        fault = undefined;
        return rows;
      } catch (error) {
        const code = codeOf(error);
        if (attempt < MAX_ATTEMPTS && ROLLED_BACK.has(code)) continue;
        if (attempt < MAX_ATTEMPTS && code === TOO_MANY_CONNECTIONS) {
          makeDo();
          // Others may be about to connect.
          await setTimeout(attempt * CONNECT_RETRY_MS);
          continue;
        }
        const known = toError(error);
        fault = known instanceof RecordStoreAway ? known.message : undefined;
        throw known;
      }
    }
  }

  async function change<R extends pg.QueryResultRow>(text: string, ids: readonly string[], values: readonly unknown[]) {
    const rows = await query<R>(text, [holder.number, listener.channel, announcementOf(ids), ...values]).finally(() =>
      listener.forget(ids),
    );
    if (rows.length === 0) throw overtaken();
    return rows;
  }

  function overtaken(): RecordStoreFailed {
    fault = 'another Veneer holds the records by now';
    return new RecordStoreFailed(`${fault}: stop one of the two, or give each a schema of its own`);
  }

  async function write(changes: readonly Change[], { expected = [], isVolatile = false }: WriteOptions = {}) {
    // A statement may change a record once, so the last change of each counts. In order of their keys, as others lock them as well.
    const last = new Map(changes.map(each => [idOf(each.collection, each.key), each]));
    const ordered = [...last].sort(([a], [b]) => compareKeys(a, b)).map(([, each]) => each);
    const puts = ordered.filter(each => each.kind === 'put');
    const deletes = ordered.filter(each => each.kind === 'delete');
    const ids = [...last.keys()];
    const values = [
      ...columnsOf(deletes),
      ...columnsOf(puts),
      puts.map(({ value }) => Buffer.from(value)),
      puts.map(({ expiresAt }) => expiresAt?.getTime() ?? null),
    ];
    const isPlain = expected.length === 0 && !isVolatile && puts.every(({ ttlMs }) => ttlMs === undefined);
    if (isPlain) await change(statements.write, ids, values);
    else {
      const ttls = puts.map(({ ttlMs }) => ttlMs ?? null);
      const before = expected.map(({ value }) => value && Buffer.from(value));
      await changeIfExpected(ordered, ids, [...values, ttls, ...columnsOf(expected), before, isVolatile]);
    }
  }

  async function changeIfExpected(changes: readonly Change[], ids: readonly string[], values: readonly unknown[]) {
    // Leases are never read from the cache, and waiting processes only need to know when they end.
    const isAnnounced = changes.some(
      ({ kind, collection }) => collection !== COUNTS && (kind === 'delete' || collection !== LEASES),
    );
    const announcement = isAnnounced ? announcementOf(ids) : null;
    const parameters = [holder.number, listener.channel, announcement, time(), ...values];
    const [row] = await query<{ conflict: string | null }>(statements.change, parameters)
      .catch(error => {
        if (codeOf(error) !== UNEXPECTED) throw error;
        return [{ conflict: '/' }];
      })
      .finally(() => listener.forget(ids));
    const conflict = row?.conflict ?? undefined;
    if (conflict === '') throw overtaken();
    if (conflict === undefined) return;
    // It is read again, and not from the cache: the announcement may be on its way.
    listener.forget([conflict]);
    throw new RecordConflict(recordOf(conflict));
  }

  async function select<R extends pg.QueryResultRow>(text: string, collection: string, selection: ListOptions) {
    const { prefix = '', after = '', limit } = selection;
    if (prefix.includes(NUL)) return [];
    const [behind = ''] = after.split(NUL, 1);
    return query<R>(text, [time(), collection, prefix, endOfPrefix(prefix) ?? null, behind, limit]);
  }

  async function list(collection: string, selection: ListOptions): Promise<readonly string[]> {
    const rows = await select<{ key: string }>(statements.list, collection, selection);
    return rows.map(({ key }) => key);
  }

  return {
    onUnreadable,
    condition,
    locks: isShared || isGuest ? createSharedLocks({ store: { write, list }, ...listener }) : createProcessLocks(),
    findFault: () => fault ?? listener.findFault(),
    async get(collection, key) {
      if (key.includes(NUL)) return undefined;
      const id = idOf(collection, key);
      const version = listener.version();
      const isCached = !now && !UNCACHED.includes(collection);
      const cached = isCached && version !== undefined ? listener.cache.get(id) : undefined;
      if (cached) return new Uint8Array(cached);
      const [row] = await query<{ value: Buffer; ttl: string | null }>(statements.get, [time(), collection, key]);
      const value = row && new Uint8Array(row.value);
      const ttlMs = Math.min(CACHED_MS, Number(row?.ttl ?? CACHED_MS));
      // What was announced meanwhile may be newer than what was read.
      const isCurrent = version !== undefined && version === listener.version();
      // That there is none is not cached: what another process has acknowledged is found at once, before its announcement has arrived.
      if (value && isCached && isCurrent && ttlMs > 0) listener.cache.set(id, value, { ttlMs });
      return value && new Uint8Array(value);
    },
    put: (collection, key, value, expiry) => write([{ kind: 'put', collection, key, value, ...expiry }]),
    async delete(collection, key) {
      const values = [time(), collection, key];
      const [row] = await change<{ was_live: boolean }>(statements.delete, [idOf(collection, key)], values);
      return row?.was_live ?? false;
    },
    async write(changes, options) {
      if (changes.length > 0 || options?.expected) await write(changes, options);
    },
    list,
    async entries(collection, selection) {
      const rows = await select<{ key: string; value: Buffer }>(statements.entries, collection, selection);
      return rows.map(({ key, value }): Entry<Uint8Array> => ({ key, value: new Uint8Array(value) }));
    },
    async sweep() {
      const [row] = await query<{ count: string }>(statements.sweep, [time(), MAX_SWEPT_AT_ONCE]);
      return Number(row?.count ?? 0);
    },
    id: holder.id,
    async readAll({ collection, key }, limit) {
      const rows = await query<StoredRow>(statements.all, [collection, key, limit]);
      return rows.map(row => ({
        collection: row.collection,
        key: row.key,
        value: new Uint8Array(row.value),
        expiresAt: row.expires_at === null ? undefined : new Date(Number(row.expires_at)),
      }));
    },
    version: listener.version,
    async close() {
      await Promise.all([listener.close(), pool.end()]);
    },
  };
}

const CONNECT_TIMEOUT_MS = 5_000;
/** The server aborts a longer statement; the client waits slightly longer, in case the server is gone. */
const STATEMENT_TIMEOUT_MS = 15_000;
const QUERY_TIMEOUT_MS = 20_000;
const IDLE_MS = 60_000;
const MAX_ATTEMPTS = 5;
const MAKE_DO_MS = 10_000;
const CONNECT_RETRY_MS = 100;
const TOO_MANY_CONNECTIONS = '53300';
const MAX_SWEPT_AT_ONCE = 1000;
/** The longest effect of a changed clock, or of a lost notification. */
const CACHED_MS = 60_000;

/** Text in PostgreSQL cannot have it, and so no key has. */
const NUL = '\0';

/** A deadlock, or a conflict with another transaction: nothing was changed. */
const ROLLED_BACK: ReadonlySet<string> = new Set(['40001', '40P01']);

interface StoredRow {
  readonly collection: string;
  readonly key: string;
  readonly value: Buffer;
  readonly expires_at: string | null;
}

const REMEDY =
  'pulls continue with the records as they are, and nothing is garbage-collected. Stop Veneer and name the right database and schema in ' +
  'state.postgres, or restore a dump of it; or, to accept that all content without a record is collected, remove acknowledged.json from the data directory';

/** Records in the data directory which records its content belongs to, and compares them. */
function findCondition(directory: string, { id, isFirst: isNew }: Holder): RecordsCondition {
  const noted = readAcknowledged(directory);
  const isOther = noted ? noted.id !== id : isNew && hasStoredBytes(directory);
  const acknowledged = createAcknowledged(directory);
  // If nothing was noted before, the mismatch itself is noted.
  if (!isOther || !noted) acknowledged.note({ id: isOther ? '' : id, sequence: 0, isOpen: false });
  acknowledged.close();
  return isOther ? faultOf(isNew ? 'gone' : 'other', REMEDY) : WHOLE;
}

function recordOf(id: string): Pick<Expectation, 'collection' | 'key'> {
  const end = id.indexOf('/');
  return { collection: id.slice(0, end), key: id.slice(end + 1) };
}

function columnsOf(records: readonly Pick<Expectation, 'collection' | 'key'>[]) {
  return [records.map(({ collection }) => collection), records.map(({ key }) => key)] as const;
}
