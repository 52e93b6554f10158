// Wires the records of the service, and reports their condition to the operator.
import { statSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Logger } from 'pino';
import { z } from 'zod';
import { readOrMake, replaceSecret, SHARED_SECRETS } from '../access/keys.ts';
import type { Config } from '../config/schema.ts';
import { createMemory, type Memory } from '../memory.ts';
import { findReasonToKeep, type ServiceStore } from '../state/acknowledged.ts';
import { createCollection } from '../state/collection.ts';
import { requireComplete } from '../state/migration.ts';
import { openPostgresStore, type PostgresStore } from '../state/postgres.ts';
import { createReserve, createReservedStore, type Reserve } from '../state/reserve.ts';
import { createSqliteStore, type SqliteStore } from '../state/sqlite.ts';
import { type Locks, type RecordStore, RecordStoreAway } from '../state/store.ts';
import type { Worker } from './worker.ts';

interface Recording {
  readonly records: ServiceStore;
  /** The records of the cache, which belongs to this data directory: the same store, unless that is a database. */
  readonly cacheRecords: ServiceStore;
  /** Of work that the process that began it does to its end, and takes up again after a restart, such as the delivery of events. */
  readonly ownRecords: ServiceStore;
  /** Changes whenever any of them does: see RecordStore. */
  version(): number | undefined;
  /** Removes expired records, or a part of them; returns how many. */
  sweep(): Promise<number>;
  close(): Promise<void>;
  /** Why nothing may be deleted for lack of a record; undefined where it may. */
  reasonToKeep(): string | undefined;
  /** Rejects while records are unreadable. */
  checkReady(): Promise<void>;
  /** Why the service is not ready, although it serves requests; without local paths. */
  listFaults(): readonly string[];
}

/** The caller closes the records. Throws as `openPostgres` does. */
export async function openRecords({
  config,
  log,
  memory,
  now,
  reserve,
  worker,
}: {
  readonly config: Config;
  readonly log: Logger;
  readonly memory: Memory;
  readonly now: () => Date;
  readonly reserve: Reserve;
  /** Absent: this process alone has the data directory. */
  readonly worker?: Pick<Worker, 'number' | 'locks'> | undefined;
}): Promise<Recording> {
  const { dataDir } = config;
  const onUnreadable = (error: Error) =>
    log.error({ err: error }, 'a record is unreadable and is skipped; no others are affected');
  const postgres = await openPostgres(config, {
    ...{ memory, onUnreadable },
    onFault(reason) {
      const server = describeServer(config);
      if (reason === undefined) log.info({ server }, 'the database of the records answers again');
      else log.error({ server, reason }, 'the database of the records cannot be used: Veneer keeps trying to connect');
    },
  });
  const openFile = (path: string, locks?: Locks) =>
    createReservedStore(createSqliteStore({ path, now, locks, onUnreadable }), reserve);
  const file = openFile(fileIn(config), worker?.locks);
  const records = postgres ?? file;
  // The first worker goes on with the work that a single process has left.
  const ownFile =
    worker && worker.number > 1 ? openFile(join(dataDir, 'node', String(worker.number), 'records.db')) : file;
  const stores = [...new Set([records, file, ownFile])];
  const close = async () => void (await Promise.all(stores.map(store => store.close())));
  await requireComplete(records, nameRecords(config)).catch(error => close().then(() => Promise.reject(error)));
  const reasonToKeep = () => findReasonToKeep(records.condition);
  const logCondition = () => {
    const reason = reasonToKeep();
    if (reason !== undefined) log.error({ dataDir, condition: records.condition.kind }, reason);
  };
  logCondition();
  const watched = watchFile(file, fileIn(config), logCondition);
  return {
    ...{
      records,
      reasonToKeep,
      cacheRecords: file,
      ownRecords: records.locks.areShared ? ownFile : records,
      version: joinVersions(stores),
    },
    async sweep() {
      const counts = await Promise.all(stores.map(store => store.sweep()));
      return counts.reduce((sum, count) => sum + count, 0);
    },
    close,
    async checkReady() {
      await Promise.all(stores.map(store => store.get('token', '')));
      watched.check();
    },
    listFaults() {
      const conditions = stores.map(({ condition }) => (condition.kind === 'whole' ? undefined : condition.reason));
      const isWhole = conditions.every(fault => fault === undefined);
      const faults = isWhole ? [postgres?.findFault(), watched.findFault()] : conditions;
      return faults.filter(fault => fault !== undefined);
    },
  };
}

/** How long readiness waits for the check of all records: for large ones it takes longer, while requests are served. */
const CHECK_MS = 10_000;

/** Checks the file after an unclean shutdown, and detects when it is removed or replaced while it is open. */
function watchFile(records: SqliteStore, path: string, logCondition: () => void) {
  const file = findFile(path);
  let isInPlace = true;
  let isChecking = true;
  const waitsUntil = performance.now() + CHECK_MS;
  void records.check().then(() => {
    isChecking = false;
    if (records.condition.kind === 'damaged') logCondition();
  });
  return {
    check() {
      isInPlace = findFile(path) === file;
    },
    findFault() {
      if (!isInPlace) return 'the records were removed or replaced while Veneer was running: nothing can be written';
      const isWaiting = isChecking && performance.now() < waitsUntil;
      return isWaiting ? 'checking the records after an unclean shutdown' : undefined;
    },
  };
}

function findFile(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.ino;
}

/** With a database, the file only has records of this data directory. */
function fileIn({ dataDir, state }: Pick<Config, 'dataDir' | 'state'>): string {
  return state.postgres ? join(dataDir, 'node', 'records.db') : join(dataDir, 'records.db');
}

function joinVersions(stores: readonly RecordStore[]): () => number | undefined {
  let version = 0;
  let last: readonly (number | undefined)[] = [];
  return () => {
    const next = stores.map(store => store.version());
    if (next.includes(undefined)) return undefined;
    if (next.some((each, at) => each !== last[at])) version += 1;
    last = next;
    return version;
  };
}

/** The records of the cache, for a command that runs in place of the service. The caller closes them before the reserve. */
export function openCacheRecords(config: Config, reserve: Reserve): ServiceStore {
  return createReservedStore(createSqliteStore({ path: fileIn(config) }), reserve);
}

/** The same for the records of the service. */
export async function openOwnRecords(config: Config, reserve: Reserve, memory: Memory): Promise<ServiceStore> {
  return (await openPostgres(config, { memory })) ?? openCacheRecords(config, reserve);
}

/** Stored with the content that they describe: what upstreams have sent, which can be refetched. */
const CACHE_COLLECTIONS: readonly string[] = ['link', 'linked'];

/** What `veneer migrate` moves. */
export function findMigrationTarget(config: Config) {
  return {
    dataDir: config.dataDir,
    schema: config.state.postgres?.schema,
    isOfCache: (collection: string) => CACHE_COLLECTIONS.includes(collection),
    async openDatabase(directory: string): Promise<ServiceStore> {
      const store = await openPostgres({ ...config, dataDir: directory }, { memory: createMemory(GUEST_BYTES) });
      if (!store) throw new Error('there is no database');
      return store;
    },
  };
}

/** The records for `veneer token`, which may run beside a service that holds them. */
export function findTokenRecords(config: Pick<Config, 'dataDir' | 'state'>) {
  const { postgres } = config.state;
  const directory = config.dataDir;
  const path = fileIn(config);
  return {
    name: nameRecords(config),
    hasRecords: () => postgres !== undefined || findFile(path) !== undefined,
    async open() {
      const store = await openPostgres(config, { memory: createMemory(GUEST_BYTES), isGuest: true });
      if (store) return store;
      const reserve = createReserve(directory);
      const records = createReservedStore(createSqliteStore({ path }), reserve);
      return { ...records, close: () => records.close().then(reserve.close) };
    },
  };
}

function nameRecords(config: Pick<Config, 'dataDir' | 'state'>): string {
  const { postgres } = config.state;
  return postgres ? `schema ${postgres.schema} of the database` : fileIn(config);
}

/** The keys that sign become those of the records: what one process signed, all others accept. */
export async function shareSecrets({
  records,
  dataDir,
}: {
  readonly records: RecordStore;
  readonly dataDir: string;
}): Promise<void> {
  const secrets = createCollection({ store: records, name: 'secret', schema: z.string() });
  for (const [name, make] of Object.entries(SHARED_SECRETS)) {
    const path = join(dataDir, name);
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    let text = await secrets.get(name);
    if (text === undefined) {
      const own = await readOrMake(path, make);
      await secrets.update(name, found => {
        text = found ?? own;
        return found === undefined ? { record: own } : undefined;
      });
    }
    await replaceSecret(path, text ?? '');
  }
}

const GUEST_BYTES = 1024 ** 2;

/** Undefined where the records are in a file. Throws RecordStoreHeld, RecordStoreFailed or RecordStoreAway. */
async function openPostgres(
  config: Pick<Config, 'dataDir' | 'state'>,
  options: Pick<Parameters<typeof openPostgresStore>[0], 'memory' | 'isGuest' | 'onUnreadable' | 'onFault'>,
): Promise<PostgresStore | undefined> {
  const { dataDir, state } = config;
  try {
    return state.postgres && (await openPostgresStore({ ...state.postgres, ...options, directory: dataDir }));
  } catch (error) {
    if (!(error instanceof RecordStoreAway)) throw error;
    const remedy = `start ${describeServer(config)}, or correct state.postgres.url`;
    throw new RecordStoreAway(`${error.message}: ${remedy}`, { cause: error });
  }
}

/** Without the user and the password. */
function describeServer({ state: { postgres } }: Pick<Config, 'state'>): string {
  const url = URL.parse(postgres?.url ?? '');
  return url ? `${url.host}${url.pathname}` : 'the server';
}
