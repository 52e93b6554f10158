// Connections to PostgreSQL: the one that holds the records and hears what others change, and the errors of all of them.
import { setTimeout } from 'node:timers/promises';
import type pg from 'pg';
import type { Memory } from '../memory.ts';
import { LEASES } from './locks.ts';
import { migrate } from './postgres-schema.ts';
import { COUNTS, RecordStoreAway, RecordStoreFailed, RecordStoreFull } from './store.ts';

export interface Holder {
  /** Identifies the records for as long as they exist. */
  readonly id: string;
  /** Incremented by each process that takes hold of them, or by the first of several that share them. */
  readonly number: string;
  /** Whether they were never held before. */
  readonly isFirst: boolean;
}

const HEARTBEAT_MS = 250;
/** If the server does not respond for this long, notifications since then may be lost. */
const SILENT_MS = 1_000;
const MAX_RECONNECT_MS = 2_000;
const SHARE_RETRY_MS = 100;
const MAX_SHARE_ATTEMPTS = 30;

/** The connection that holds the records and receives notifications. While it is lost nothing is cached, and the version is unknown. */
export function createListener({
  connection,
  schema,
  memory,
  onFault = () => {},
  hold,
}: {
  readonly connection: pg.ClientConfig;
  readonly schema: string;
  readonly memory: Memory;
  /** As of PostgresOptions. */
  readonly onFault?: ((reason: string | undefined) => void) | undefined;
  readonly hold: 'none' | 'alone' | 'shared';
}) {
  const channel = `veneer_${schema}`;
  let cache = memory.openCache<Uint8Array>();
  let client: pg.Client | undefined;
  let heardAt = Number.NEGATIVE_INFINITY;
  let version = 0;
  let fault: string | undefined;
  const closing = new AbortController();

  function note(next: string | undefined): void {
    if (next === fault) return;
    fault = next;
    onFault(next);
  }

  function stopListening(): void {
    heardAt = Number.NEGATIVE_INFINITY;
  }

  /** Waiters for locks, by the ids of their leases. */
  const waiting = new Map<string, Set<() => void>>();

  function onAnnouncement(ids: readonly string[] | undefined): void {
    forget(ids);
    for (const id of ids ?? waiting.keys()) for (const wake of waiting.get(id) ?? []) wake();
  }

  function forget(ids: readonly string[] | undefined): void {
    if (ids?.every(id => UNCACHED.some(collection => id.startsWith(`${collection}/`)))) return;
    version += 1;
    if (ids) for (const id of ids) cache.delete(id);
    else cache = memory.openCache();
  }

  /** Throws RecordStoreHeld where another process holds the records. */
  async function connect(): Promise<pg.Client> {
    const { Client } = await loadDriver();
    const next = new Client(connection);
    // A connection that breaks ends its heartbeat.
    next.on('error', () => {});
    next.on('end', () => {
      if (client === next) stopListening();
    });
    next.on('notification', ({ payload }) => onAnnouncement(idsOf(payload)));
    try {
      await next.connect();
      await next.query(`LISTEN ${channel}`);
      if (hold === 'alone' && !(await lock(next, 'pg_try_advisory_lock'))) throw held();
      if (hold === 'shared') await share(next);
      return next;
    } catch (error) {
      await next.end().catch(() => {});
      throw error;
    }
  }

  async function lock(current: pg.Client, how: string): Promise<boolean> {
    const { rows } = await current.query(`SELECT ${how}(hashtextextended($1, 0)) AS is_done`, [channel]);
    return rows[0]?.is_done === true;
  }

  /** Waits for the first of those that share the records, which has them alone for a moment. */
  async function share(current: pg.Client): Promise<void> {
    for (let attempt = 1; !(await lock(current, 'pg_try_advisory_lock_shared')); attempt += 1) {
      if (attempt === MAX_SHARE_ATTEMPTS) throw held(', which does not share them (state.postgres.replicas)');
      await setTimeout(SHARE_RETRY_MS);
    }
  }

  function held(detail = ''): RecordStoreHeld {
    const remedy = 'stop it, name another schema, or set state.postgres.replicas for both';
    return new RecordStoreHeld(`another Veneer holds the records of the schema ${schema}${detail}: ${remedy}`);
  }

  /** Nobody who had the records before may write from now on. The first of several counts for all of them. */
  async function takeHold(current: pg.Client): Promise<Holder> {
    const isAlone = hold === 'alone' || (hold === 'shared' && (await isOnlyOne(current)));
    const update = `UPDATE ${schema}.holder SET number = number + 1 RETURNING id, number`;
    const { rows } = await current.query<Holder>(isAlone ? update : `SELECT id, number FROM ${schema}.holder`);
    if (hold === 'shared' && isAlone) await lock(current, 'pg_advisory_unlock');
    const [holder] = rows;
    if (!holder) throw new RecordStoreFailed(`the table ${schema}.holder is empty`);
    return { ...holder, isFirst: isAlone && holder.number === '1' };
  }

  /** Then it has the lock alone as well. */
  function isOnlyOne(current: pg.Client): Promise<boolean> {
    return lock(current, 'pg_try_advisory_lock');
  }

  /** Sends heartbeats until the connection breaks. */
  async function beat(current: pg.Client): Promise<void> {
    while (!closing.signal.aborted) {
      const askedAt = performance.now();
      await ping(current);
      heardAt = askedAt;
      await setTimeout(HEARTBEAT_MS, undefined, { signal: closing.signal, ref: false });
    }
  }

  async function ping(current: pg.Client): Promise<void> {
    await current.query({ text: 'SELECT', query_timeout: SILENT_MS } as pg.QueryConfig);
  }

  async function keepListening(first: pg.Client): Promise<void> {
    client = first;
    for (let waitMs = 100; !closing.signal.aborted; waitMs = Math.min(2 * waitMs, MAX_RECONNECT_MS)) {
      try {
        client ??= await connect();
        forget(undefined);
        note(undefined);
        waitMs = 100;
        await beat(client);
      } catch (error) {
        if (closing.signal.aborted) return;
        note(toError(error).message);
      }
      stopListening();
      void client?.end().catch(() => {});
      client = undefined;
      await setTimeout(waitMs, undefined, { signal: closing.signal, ref: false }).catch(() => {});
    }
  }

  return {
    channel,
    forget,
    watch(key: string, wake: () => void): () => void {
      const id = idOf(LEASES, key);
      const wakes = waiting.get(id) ?? new Set();
      waiting.set(id, wakes.add(wake));
      return () => {
        wakes.delete(wake);
        if (wakes.size === 0 && waiting.get(id) === wakes) waiting.delete(id);
      };
    },
    /** From then on what was committed before is known: the server announces that before it answers. Otherwise nothing is cached. */
    async catchUp(): Promise<void> {
      if (client) await ping(client).catch(stopListening);
    },
    findFault: () => fault,
    get cache() {
      return cache;
    },
    version: () => (performance.now() - heardAt < SILENT_MS ? version : undefined),
    async open(): Promise<Holder> {
      const first = await connect();
      try {
        await migrate(first, schema);
        const holder = await takeHold(first);
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

/** Another process holds the records. */
export class RecordStoreHeld extends Error {
  override readonly name = 'RecordStoreHeld';
}

/** Collections that change frequently. */
export const UNCACHED: readonly string[] = [LEASES, COUNTS];

/** Collections have no slash in their names. */
export function idOf(collection: string, key: string): string {
  return `${collection}/${key}`;
}

/** The maximum length of a notification's payload. */
const MAX_ANNOUNCEMENT_BYTES = 7_999;

/** The changed records; empty if they are too many for one notification. */
export function announcementOf(ids: readonly string[]): string {
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

export function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}

/** Loaded when it is needed: most services have their records in SQLite. */
export async function loadDriver(): Promise<typeof pg> {
  return (await import('pg')).default;
}

/** Whether the server reports the error: only those have a severity. */
function isOfServer(error: unknown): error is Error {
  return error instanceof Error && 'severity' in error;
}

/** What an operator can do about codes of the server. */
const REFUSALS: readonly (readonly [codes: RegExp, remedy: string])[] = [
  [/^28/, 'check the user and the password in state.postgres.url'],
  [/^3D/, 'create it, or correct state.postgres.url'],
  [/^(?:42501|3F)/, 'the role needs CREATE on the database, or a schema that it owns'],
];

/** By the classes of https://www.postgresql.org/docs/15/errcodes-appendix.html; addresses and credentials stay out of the message. */
export function toError(error: unknown): Error {
  if (error instanceof RecordStoreFailed || error instanceof RecordStoreHeld) return error;
  const code = codeOf(error);
  if (code === '53100') return new RecordStoreFull('the disk of the database is full', { cause: error });
  const reason = isOfServer(error) ? error.message : code || 'no answer';
  const [, remedy] = REFUSALS.find(([codes]) => codes.test(code)) ?? [];
  if (remedy !== undefined)
    return new RecordStoreFailed(`the database of the records refuses Veneer: ${reason}: ${remedy}`, { cause: error });
  // An error of the server about a statement is a bug of ours.
  const isAway = !isOfServer(error) || /^(?:08|53|55|57|58|25006|40)/.test(code);
  if (isAway) return new RecordStoreAway(`the database of the records does not answer (${reason})`, { cause: error });
  return error instanceof Error ? error : new Error(String(error));
}
