// Records in PostgreSQL: one table, as in SQLite's file. Reads are cached, and NOTIFY announces what is written.
import { setTimeout } from 'node:timers/promises';
import pg from 'pg';
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
import {
  type Change,
  compareKeys,
  type Entry,
  endOfPrefix,
  type ListOptions,
  type RecordStore,
  RecordStoreAway,
  RecordStoreFailed,
  RecordStoreFull,
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
  /** For tests. Default: the clock of the server, which all its clients share. */
  readonly now?: () => Date;
  readonly onUnreadable?: RecordStore['onUnreadable'];
}

interface TlsOptions {
  readonly ca?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
}

/**
 * Opens the records, and migrates them to this release. One process at a time holds them: it has a number, and the writes of an earlier
 * holder fail. Throws RecordStoreHeld where another process has them, RecordStoreFailed for a server that cannot be used, or for records of
 * a newer release. The caller closes the store.
 */
export async function openPostgresStore(options: PostgresOptions): Promise<PostgresStore> {
  const { url, schema, maxConnections, tls, memory, directory, isGuest = false, now, onUnreadable } = options;
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
  const listener = createListener({ connection, schema, memory, isGuest });
  let holder: Holder;
  try {
    holder = await listener.open();
  } catch (error) {
    await listener.close();
    throw toError(error);
  }
  const pool = new pg.Pool({ ...connection, max: maxConnections, idleTimeoutMillis: IDLE_MS });
  // An idle connection failed: the pool opens another one for the next query.
  pool.on('error', () => {});
  const time = () => now?.().getTime() ?? null;
  const condition = isGuest ? WHOLE : findCondition(directory, holder);
  let fault: string | undefined;

  /** Runs one statement, which is a transaction of its own. */
  async function query<R extends pg.QueryResultRow>(text: string, values: readonly unknown[]): Promise<readonly R[]> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        const { rows } = await pool.query<R>(text, [...values]);
        fault = undefined;
        return rows;
      } catch (error) {
        if (attempt < MAX_ATTEMPTS && ROLLED_BACK.has(codeOf(error))) continue;
        const known = toError(error);
        fault = known instanceof RecordStoreAway ? known.message : undefined;
        throw known;
      }
    }
  }

  /** Throws RecordStoreFailed where another process holds the records by now. */
  async function change<R extends pg.QueryResultRow>(text: string, ids: readonly string[], values: readonly unknown[]) {
    const rows = await query<R>(text, [holder.number, listener.channel, announcementOf(ids), ...values]).finally(() =>
      listener.forget(ids),
    );
    if (rows.length === 0) {
      fault = 'another Veneer holds the records by now';
      throw new RecordStoreFailed(`${fault}: stop one of the two, or give each a schema of its own`);
    }
    return rows;
  }

  async function write(changes: readonly Change[]): Promise<void> {
    // A statement may change a record once, so the last change of each counts. In order of their keys, as others lock them as well.
    const last = new Map(changes.map(each => [idOf(each.collection, each.key), each]));
    const ordered = [...last].sort(([a], [b]) => compareKeys(a, b)).map(([, each]) => each);
    const puts = ordered.filter(each => each.kind === 'put');
    const deletes = ordered.filter(each => each.kind === 'delete');
    await change(
      statements.write,
      [...last.keys()],
      [
        deletes.map(({ collection }) => collection),
        deletes.map(({ key }) => key),
        puts.map(({ collection }) => collection),
        puts.map(({ key }) => key),
        puts.map(({ value }) => Buffer.from(value)),
        puts.map(({ expiresAt }) => expiresAt?.getTime() ?? null),
      ],
    );
  }

  function rangeOf(collection: string, { prefix = '', after = '', limit }: ListOptions) {
    return [time(), collection, prefix, endOfPrefix(prefix) ?? null, after, limit];
  }

  return {
    onUnreadable,
    condition,
    findFault: () => fault ?? listener.findFault(),
    async get(collection, key) {
      const id = idOf(collection, key);
      const version = listener.version();
      const cached = now || version === undefined ? undefined : listener.cache.get(id);
      if (cached) return cached.value && new Uint8Array(cached.value);
      const [row] = await query<{ value: Buffer; ttl: string | null }>(statements.get, [time(), collection, key]);
      const value = row && new Uint8Array(row.value);
      const ttlMs = Math.min(CACHED_MS, Number(row?.ttl ?? CACHED_MS));
      // What was announced meanwhile may be newer than what was read.
      const isCurrent = version !== undefined && version === listener.version();
      if (isCurrent && ttlMs > 0) listener.cache.set(id, { value }, { ttlMs });
      return value && new Uint8Array(value);
    },
    put: (collection, key, value, expiry) => write([{ kind: 'put', collection, key, value, ...expiry }]),
    async delete(collection, key) {
      const values = [time(), collection, key];
      const [row] = await change<{ was_live: boolean }>(statements.delete, [idOf(collection, key)], values);
      return row?.was_live ?? false;
    },
    async write(changes) {
      if (changes.length > 0) await write(changes);
    },
    async list(collection, selection) {
      const rows = await query<{ key: string }>(statements.list, rangeOf(collection, selection));
      return rows.map(({ key }) => key);
    },
    async entries(collection, selection) {
      const rows = await query<{ key: string; value: Buffer }>(statements.entries, rangeOf(collection, selection));
      return rows.map(({ key, value }): Entry<Uint8Array> => ({ key, value: new Uint8Array(value) }));
    },
    async sweep() {
      const [row] = await query<{ count: string }>(statements.sweep, [time(), MAX_SWEPT_AT_ONCE]);
      return Number(row?.count ?? 0);
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
const MAX_SWEPT_AT_ONCE = 1000;
/** The longest effect of a changed clock, or of a lost notification. */
const CACHED_MS = 60_000;

/** A deadlock, or a conflict with another transaction: nothing was changed. */
const ROLLED_BACK: ReadonlySet<string> = new Set(['40001', '40P01']);

/** Released ones are immutable: each migrates the schema numbered by its index to the next. */
const MIGRATIONS = [
  (schema: string) => `
    CREATE TABLE ${schema}.records (
      collection text COLLATE "C" NOT NULL,
      key text COLLATE "C" NOT NULL,
      value bytea NOT NULL,
      expires_at bigint,
      PRIMARY KEY (collection, key)
    );
    CREATE INDEX records_by_expiry ON ${schema}.records (expires_at) WHERE expires_at IS NOT NULL;
    CREATE TABLE ${schema}.holder (id text NOT NULL, number bigint NOT NULL);
    INSERT INTO ${schema}.holder VALUES (replace(gen_random_uuid()::text, '-', ''), 0);`,
];

/** Changes take the number of the holder, the channel and the notification first, and return no row unless the caller is the holder. */
function prepareStatements(schema: string) {
  const records = `${schema}.records`;
  const now = (parameter: string) =>
    `(SELECT coalesce(${parameter}::bigint, (extract(epoch FROM clock_timestamp()) * 1000)::bigint))`;
  const live = `(expires_at IS NULL OR expires_at > ${now('$1')})`;
  const range = `FROM ${records} WHERE collection = $2 AND key >= $3 AND ($4::text IS NULL OR key < $4) AND key > $5 AND ${live} ORDER BY key LIMIT $6`;
  // The holder is locked until the change is durable: the next one waits for it.
  const holder = `holder AS (SELECT FROM ${schema}.holder WHERE number = $1::bigint FOR SHARE)`;
  const held = 'EXISTS (SELECT FROM holder)';
  return {
    get: `SELECT value, expires_at - ${now('$1')} AS ttl FROM ${records} WHERE collection = $2 AND key = $3 AND ${live}`,
    // $5 is the key to start after: without one it is empty, and no key is.
    list: `SELECT key ${range}`,
    entries: `SELECT key, value ${range}`,
    write: `WITH ${holder},
      deleted AS (
        DELETE FROM ${records} AS old USING unnest($4::text[], $5::text[]) AS d (collection, key)
        WHERE old.collection = d.collection AND old.key = d.key AND ${held}
      ),
      written AS (
        INSERT INTO ${records} (collection, key, value, expires_at)
        SELECT * FROM unnest($6::text[], $7::text[], $8::bytea[], $9::bigint[]) AS p WHERE ${held}
        ON CONFLICT (collection, key) DO UPDATE SET value = EXCLUDED.value, expires_at = EXCLUDED.expires_at
      )
      SELECT pg_notify($2, $3) FROM holder`,
    delete: `WITH ${holder},
      deleted AS (
        DELETE FROM ${records} WHERE collection = $5 AND key = $6 AND ${held}
        RETURNING expires_at IS NULL OR expires_at > ${now('$4')} AS was_live
      )
      SELECT pg_notify($2, $3), coalesce((SELECT was_live FROM deleted), false) AS was_live FROM holder`,
    sweep: `WITH swept AS (
        DELETE FROM ${records} WHERE ctid = ANY(ARRAY(
          SELECT ctid FROM ${records} WHERE expires_at <= ${now('$1')} ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED
        )) RETURNING 1
      )
      SELECT count(*) FROM swept`,
  };
}

interface Holder {
  /** Identifies the records for as long as they exist. */
  readonly id: string;
  /** Incremented by each process that takes hold of them. */
  readonly number: string;
}

const REMEDY =
  'pulls continue with the records as they are, and nothing is garbage-collected. Stop Veneer and name the right database and schema in ' +
  'state.postgres, or restore a dump of it; or, to accept that all content without a record is collected, remove acknowledged.json from the data directory';

/** Records in the data directory which records its content belongs to, and compares them. */
function findCondition(directory: string, { id, number }: Holder): RecordsCondition {
  const noted = readAcknowledged(directory);
  const isNew = number === '1';
  const isOther = noted ? noted.id !== id : isNew && hasStoredBytes(directory);
  const acknowledged = createAcknowledged(directory);
  // If nothing was noted before, the mismatch itself is noted.
  if (!isOther || !noted) acknowledged.note({ id: isOther ? '' : id, sequence: 0, isOpen: false });
  acknowledged.close();
  return isOther ? faultOf(isNew ? 'gone' : 'other', REMEDY) : WHOLE;
}

const HEARTBEAT_MS = 250;
/** If the server does not respond for this long, notifications since then may be lost. */
const SILENT_MS = 1_000;
const MAX_RECONNECT_MS = 2_000;

/** The connection that holds the records and receives notifications. While it is lost nothing is cached, and the version is unknown. */
function createListener({
  connection,
  schema,
  memory,
  isGuest,
}: {
  readonly connection: pg.ClientConfig;
  readonly schema: string;
  readonly memory: Memory;
  readonly isGuest: boolean;
}) {
  const channel = `veneer_${schema}`;
  let cache = memory.openCache<{ readonly value: Uint8Array | undefined }>();
  let client: pg.Client | undefined;
  let heardAt = Number.NEGATIVE_INFINITY;
  let version = 0;
  let fault: string | undefined;
  const closing = new AbortController();

  function forget(ids: readonly string[] | undefined): void {
    version += 1;
    if (ids) for (const id of ids) cache.delete(id);
    else cache = memory.openCache();
  }

  /** Throws RecordStoreHeld where another process holds the records. */
  async function connect(): Promise<pg.Client> {
    const next = new pg.Client(connection);
    // A connection that breaks ends its heartbeat.
    next.on('error', () => {});
    next.on('end', () => {
      if (client === next) heardAt = Number.NEGATIVE_INFINITY;
    });
    next.on('notification', ({ payload }) => forget(idsOf(payload)));
    try {
      await next.connect();
      await next.query(`LISTEN ${channel}`);
      if (isGuest) return next;
      const { rows } = await next.query('SELECT pg_try_advisory_lock(hashtextextended($1, 0)) AS is_held', [channel]);
      if (!rows[0]?.is_held) throw new RecordStoreHeld(`another Veneer holds the records of the schema ${schema}`);
      return next;
    } catch (error) {
      await next.end().catch(() => {});
      throw error;
    }
  }

  /** Sends heartbeats until the connection breaks. */
  async function beat(current: pg.Client): Promise<void> {
    while (!closing.signal.aborted) {
      const askedAt = performance.now();
      await current.query({ text: 'SELECT', query_timeout: SILENT_MS } as pg.QueryConfig);
      heardAt = askedAt;
      await setTimeout(HEARTBEAT_MS, undefined, { signal: closing.signal, ref: false });
    }
  }

  async function keepListening(first: pg.Client): Promise<void> {
    client = first;
    for (let waitMs = 100; !closing.signal.aborted; waitMs = Math.min(2 * waitMs, MAX_RECONNECT_MS)) {
      try {
        client ??= await connect();
        forget(undefined);
        fault = undefined;
        waitMs = 100;
        await beat(client);
      } catch (error) {
        if (closing.signal.aborted) return;
        fault = toError(error).message;
      }
      heardAt = Number.NEGATIVE_INFINITY;
      void client?.end().catch(() => {});
      client = undefined;
      await setTimeout(waitMs, undefined, { signal: closing.signal, ref: false }).catch(() => {});
    }
  }

  return {
    channel,
    forget,
    findFault: () => fault,
    get cache() {
      return cache;
    },
    version: () => (performance.now() - heardAt < SILENT_MS ? version : undefined),
    async open(): Promise<Holder> {
      const first = await connect();
      try {
        await migrate(first, schema);
        const change = isGuest ? 'SELECT id, number FROM' : 'UPDATE';
        const end = isGuest ? '' : 'SET number = number + 1 RETURNING id, number';
        const { rows } = await first.query<Holder>(`${change} ${schema}.holder ${end}`);
        const [holder] = rows;
        if (!holder) throw new RecordStoreFailed(`the table ${schema}.holder is empty`);
        heardAt = performance.now();
        void keepListening(first);
        return holder;
      } catch (error) {
        await first.end();
        throw error;
      }
    },
    async close() {
      closing.abort();
      await client?.end().catch(() => {});
    },
  };
}

async function migrate(client: pg.Client, schema: string): Promise<void> {
  await client.query('BEGIN');
  try {
    // A command may open the records while a service starts.
    await client.query('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [`veneer_${schema}_migration`]);
    await client.query(`CREATE SCHEMA IF NOT EXISTS ${schema}`);
    await client.query(`CREATE TABLE IF NOT EXISTS ${schema}.migrations (version integer NOT NULL)`);
    const { rows } = await client.query(`SELECT coalesce(max(version), 0) AS version FROM ${schema}.migrations`);
    const version = Number(rows[0]?.version);
    if (version > MIGRATIONS.length) {
      throw new RecordStoreFailed(
        `the schema ${schema} has version ${version}, of a newer Veneer, and this one knows versions up to ${MIGRATIONS.length}: start the newer one again`,
      );
    }
    for (const [at, step] of MIGRATIONS.entries()) {
      if (at < version) continue;
      await client.query(step(schema));
      await client.query(`INSERT INTO ${schema}.migrations VALUES ($1)`, [at + 1]);
    }
    await client.query('COMMIT');
  } catch (error) {
    await client.query('ROLLBACK').catch(() => {});
    throw error;
  }
}

/** Another process holds the records. */
export class RecordStoreHeld extends Error {
  override readonly name = 'RecordStoreHeld';
}

/** Collections have no slash in their names. */
function idOf(collection: string, key: string): string {
  return `${collection}/${key}`;
}

/** The maximum length of a notification's payload. */
const MAX_ANNOUNCEMENT_BYTES = 7_999;

/** The changed records; empty if they are too many for one notification. */
function announcementOf(ids: readonly string[]): string {
  const text = JSON.stringify(ids);
  return Buffer.byteLength(text) <= MAX_ANNOUNCEMENT_BYTES ? text : '';
}

function idsOf(announcement: string | undefined): readonly string[] | undefined {
  try {
    const ids: unknown = JSON.parse(announcement ?? '');
    return Array.isArray(ids) ? ids.map(String) : undefined;
  } catch {
    return undefined;
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}

/** By the classes of https://www.postgresql.org/docs/15/errcodes-appendix.html; addresses and credentials stay out of the message. */
function toError(error: unknown): Error {
  if (error instanceof RecordStoreFailed || error instanceof RecordStoreHeld) return error;
  const code = codeOf(error);
  if (code === '53100') return new RecordStoreFull('the disk of the database is full', { cause: error });
  const isRefused = /^(?:28|3D|42501|3F)/.test(code);
  const reason = error instanceof pg.DatabaseError ? error.message : code || 'no answer';
  if (isRefused)
    return new RecordStoreFailed(`the database of the records refuses Veneer: ${reason}`, { cause: error });
  // An error of the server about a statement is a bug of ours.
  const isAway = !(error instanceof pg.DatabaseError) || /^(?:08|53|55|57|58|25006|40)/.test(code);
  if (isAway) return new RecordStoreAway(`the database of the records does not answer (${reason})`, { cause: error });
  return error instanceof Error ? error : new Error(String(error));
}
