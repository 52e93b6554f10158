// The records of builds in the record store, and their indexes: newest first, by status, by attempt and by context.
import { randomUUID } from 'node:crypto';
import type { Logger } from 'pino';
import { z } from 'zod';
import type { Digest } from '../../oci/digest.ts';
import { createCollection } from '../../state/collection.ts';
import { type Expectation, type Lock, type PutOptions, pagesOf, type RecordStore } from '../../state/store.ts';
import type { BuildsPage } from '../builds.ts';
import { type BuildRecord, buildIdSchema, buildRecordSchema } from '../record.ts';
import { splitId } from './id.ts';

export interface BuildRecords {
  /**
   * Durable when it resolves. The crash history is retained until the build has ended, the record until its retention ends. Throws
   * RecordConflict unless everything is as expected.
   */
  save(record: BuildRecord, crashHistory: CrashHistory, expected?: readonly Expectation[]): Promise<void>;
  /** Undefined also for an unreadable record, which is logged: an older release may have written it. */
  find(id: string): Promise<BuildRecord | undefined>;
  /** The last attempt at a spec, whatever its result; without its record if that cannot be read. */
  findLatest(key: string): Promise<LatestAttempt | undefined>;
  /** Newest first; none if `after` is unknown. */
  list(page: BuildsPage): Promise<readonly BuildRecord[]>;
  /** Records that this caller also requested the build. Durable when it resolves. */
  addCaller(id: string, caller: string): Promise<void>;
  hasCaller(id: string, caller: string): Promise<boolean>;
  /** Whether a stored build uses this context. */
  hasContext(digest: Digest): Promise<boolean>;
  /** Unfinished builds of an earlier process: running ones before queued ones, oldest first. */
  listUnderWay(): Promise<readonly UnderWay[]>;
  /** Undefined for a build that has ended, or whose record is gone or unreadable. */
  findUnderWay(id: string): Promise<UnderWay | undefined>;
  /** The ids of all builds of this status, oldest first. */
  listIds(status: BuildRecord['status']): Promise<readonly string[]>;
  /** Asks whichever process works on the build, or takes it up, to cancel it. Durable when it resolves. */
  requestCancel(id: string): Promise<void>;
  /**
   * Makes the holder of this lock the one who works on the build, until another process claims it, and returns what all its writes expect.
   * Unlike a lease it does not expire: who has it may take up the lock again after the records were away.
   */
  claim(id: string, lock: Pick<Lock, 'fence'>): Promise<readonly Expectation[]>;
  /** Throws RecordConflict unless the records are as expected. */
  check(expected: readonly Expectation[]): Promise<void>;
  isCancelRequested(id: string): Promise<boolean>;
}

interface LatestAttempt {
  readonly attempt: number;
  readonly record: BuildRecord | undefined;
}

export interface UnderWay {
  readonly record: BuildRecord;
  readonly crashHistory: CrashHistory;
}

const CLAIMS = 'build-claim';
const STATUSES = buildRecordSchema.shape.status.options;
const PAGE = 1000;
/** How long a build may take from its submission to its end. */
export const UNDER_WAY_MS = 7 * 86_400_000;

export function createBuildRecords({
  records: store,
  keepMs,
  now,
  log,
}: {
  readonly records: RecordStore;
  /** How long a record is retained after the end of its build. */
  readonly keepMs: number;
  readonly now: () => Date;
  readonly log: Logger;
}): BuildRecords {
  const builds = createCollection({ store, name: 'build', schema: buildRecordSchema });
  const order = createCollection({ store, name: 'build-order', schema: buildIdSchema });
  const callers = createCollection({ store, name: 'build-caller', schema: z.literal(true) });
  const cancels = createCollection({ store, name: 'build-cancel', schema: z.literal(true) });
  // Older releases stored a number, which blamed every running build.
  const crashHistories = createCollection({ store, name: 'build-crash', schema: blameSchema.catch(NO_CRASHES) });

  function expiryOf({ endedAt }: BuildRecord): PutOptions {
    return endedAt === undefined ? {} : { expiresAt: new Date(Date.parse(endedAt) + keepMs) };
  }

  async function find(id: string): Promise<BuildRecord | undefined> {
    try {
      return await builds.get(id);
    } catch (error) {
      if (!isUnreadable(error)) throw error;
      log.error({ err: error, build: id }, 'the record of a build cannot be read');
      return undefined;
    }
  }

  async function findBlame({ id }: BuildRecord): Promise<CrashHistory> {
    try {
      return (await crashHistories.get(id)) ?? NO_CRASHES;
    } catch (error) {
      if (!isUnreadable(error)) throw error;
      log.error({ err: error, build: id }, 'the crash history of a build cannot be read');
      return NO_CRASHES;
    }
  }

  async function findAll(ids: readonly string[]): Promise<readonly BuildRecord[]> {
    const found = await Promise.all(ids.map(find));
    return found.filter(record => record !== undefined);
  }

  async function idsOf(prefix: string, options: { readonly after?: string; readonly limit: number }) {
    const entries = await order.entries({ ...options, prefix });
    return entries.map(({ value }) => value);
  }

  async function listIds(status: BuildRecord['status']): Promise<readonly string[]> {
    const found: string[] = [];
    for await (const page of pagesOf(order.entries, { prefix: statusPrefix(status), limit: PAGE }))
      found.unshift(...page.map(({ value }) => value).toReversed());
    return found;
  }

  const listStatus = async (status: BuildRecord['status']) => findAll(await listIds(status));

  /** As it is, whatever was read of it before: what another process has just written may not have been announced yet. */
  async function findCurrent(id: string): Promise<BuildRecord | undefined> {
    if (!store.locks.areShared) return find(id);
    const [entry] = await builds.entries({ prefix: id, limit: 1 });
    return entry?.key === id ? entry.value : undefined;
  }

  return {
    find,
    async save(record, crashHistory, expected = []) {
      const { id, status, endedAt } = record;
      const expiry = expiryOf(record);
      const isOver = endedAt !== undefined;
      const changes = [
        builds.putting(id, record, expiry),
        ...STATUSES.filter(other => other !== status).map(other =>
          order.deleting(statusPrefix(other) + timeKey(record)),
        ),
        ...keysOf(record).map(key => order.putting(key, id, expiry)),
        ...(isOver ? [crashHistories.deleting(id), cancels.deleting(id)] : [crashHistories.putting(id, crashHistory)]),
      ];
      await store.write(changes, { expected });
    },
    async findLatest(key) {
      const [id] = await idsOf(attemptPrefix(key), { limit: 1 });
      return id === undefined ? undefined : { attempt: splitId(id).attempt, record: await findCurrent(id) };
    },
    async list({ limit, after, status }) {
      const prefix = status === undefined ? ALL : statusPrefix(status);
      if (after === undefined) return findAll(await idsOf(prefix, { limit }));
      const start = await find(after);
      return start ? findAll(await idsOf(prefix, { after: prefix + timeKey(start), limit })) : [];
    },
    addCaller: (id, caller) =>
      callers.put(`${id} ${caller}`, true, { expiresAt: new Date(now().getTime() + keepMs + UNDER_WAY_MS) }),
    hasCaller: (id, caller) => callers.has(`${id} ${caller}`),
    hasContext: async digest => (await idsOf(contextPrefix(digest), { limit: 1 })).length > 0,
    async listUnderWay() {
      const records = [...(await listStatus('running')), ...(await listStatus('queued'))];
      return Promise.all(records.map(async record => ({ record, crashHistory: await findBlame(record) })));
    },
    async findUnderWay(id) {
      const record = await findCurrent(id);
      return record && record.endedAt === undefined ? { record, crashHistory: await findBlame(record) } : undefined;
    },
    listIds,
    async claim(id, { fence }) {
      // A lock that cannot be lost needs nothing else.
      if (fence.length === 0) return [];
      const claim = { collection: CLAIMS, key: id, value: new TextEncoder().encode(randomUUID()) };
      await store.write([{ kind: 'put', ...claim, ttlMs: UNDER_WAY_MS }], { expected: fence });
      return [claim];
    },
    check: expected => store.write([], { expected }),
    requestCancel: id => cancels.put(id, true, { ttlMs: UNDER_WAY_MS }),
    isCancelRequested: id => cancels.has(id),
  };
}

function isUnreadable(error: unknown): boolean {
  return error instanceof Error && (error.cause instanceof z.ZodError || error.cause instanceof SyntaxError);
}

const ALL = 'all/';
const MAX_TIME = 8_640_000_000_000_000;
const MAX_ATTEMPT = 999_999_999;

function statusPrefix(status: BuildRecord['status']): string {
  return `status/${status}/`;
}

function attemptPrefix(key: string): string {
  return `attempt/${key}/`;
}

function contextPrefix(digest: string): string {
  return `context/${digest}/`;
}

function keysOf(record: BuildRecord): readonly string[] {
  const { key, attempt } = splitId(record.id);
  const time = timeKey(record);
  const context = record.spec.kind === 'containerfile' ? record.spec.context : undefined;
  return [
    ALL + time,
    statusPrefix(record.status) + time,
    attemptPrefix(key) + descending(attempt, MAX_ATTEMPT),
    ...(context ? [contextPrefix(context.digest) + record.id] : []),
  ];
}

function timeKey({ createdAt, id }: BuildRecord): string {
  return `${descending(Date.parse(createdAt), MAX_TIME)}/${id}`;
}

/** Of constant length, and descending: stores list keys in ascending order. */
function descending(count: number, max: number): string {
  return String(max - count).padStart(String(max).length, '0');
}

const blameSchema = z.object({
  /** Whether it is running. If set at a start, the build was running when the process died: an orderly stop clears it. */
  isRunning: z.boolean(),
  /** Whether it was running during a crash: from then on it runs alone. */
  isSuspect: z.boolean(),
  /** How often the process crashed while only this build was running. */
  crashes: z.int().nonnegative(),
});

export type CrashHistory = z.infer<typeof blameSchema>;

export const NO_CRASHES: CrashHistory = { isRunning: false, isSuspect: false, crashes: 0 };
