// Stored content of all kinds: its directories or its bucket, the scrubber that finds damage, and the report of damage to the log and to webhooks,
// once.
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { z } from 'zod';
import { REMEDIES } from '../cache/admin/cache-admin.ts';
import type { CountedStore } from '../cache/eviction/counted-store.ts';
import { createBucketStore, type Damages } from '../cache/read-through/bucket-store.ts';
import { ConfigError } from '../config/faults.ts';
import type { Config } from '../config/schema.ts';
import { type Bucket, openBucket } from '../content/bucket.ts';
import { BucketFault } from '../content/bucket-fault.ts';
import {
  createDiskStore,
  type DiskStore,
  type DiskStoreOptions,
  prepareDisk,
  removeUnfinished,
  STAGING,
} from '../content/disk.ts';
import {
  CONTENT_KINDS,
  type ContentKind,
  createInventory,
  type Holds,
  type ListedStore,
  listContent,
  type StoredContent,
} from '../content/inventory.ts';
import { LEASE_MS } from '../content/leased-store.ts';
import { type Scrubber, type ScrubTotals, startScrubber } from '../content/scrubber.ts';
import type { ContentStore } from '../content/store.ts';
import type { Damage } from '../content/verification.ts';
import type { UploadParts } from '../hosted/repository/shared-uploads.ts';
import type { RegistryEvents } from '../http/distribution/registry-events.ts';
import type { Memory } from '../memory.ts';
import { type Digest, isDigest } from '../oci/digest.ts';
import { createCollection } from '../state/collection.ts';
import type { RecordStore } from '../state/store.ts';
import type { Worker } from './worker.ts';

/** In the data directory. */
export function contentFolder(dataDir: string, of: ContentKind): string {
  return join(dataDir, FOLDERS[of]);
}

const FOLDERS: Record<ContentKind, string> = {
  hosted: 'hosted',
  cache: 'content',
  rules: 'rules',
  tokens: 'tokens',
  contexts: join('builds', 'contexts'),
};

/** The folder for unfinished files of a store, within its directory. Absent: this process alone has the directory. */
export function stagingOf(worker: Pick<Worker, 'number'> | undefined): string {
  return worker ? join(STAGING, String(worker.number)) : STAGING;
}

/** Whether no other machine has the records, and with them the content. */
export function isOfOneMachine({ state }: Pick<Config, 'state'>): boolean {
  return !state.postgres?.isShared;
}

/** Removes what earlier processes have not finished. To be called while no process has the data directory. */
export async function removeStaged(config: Pick<Config, 'dataDir' | 'state'>): Promise<void> {
  for (const of of CONTENT_KINDS) {
    const isShared = of !== 'cache' && !isOfOneMachine(config);
    await removeUnfinished(join(contentFolder(config.dataDir, of), STAGING), { isShared });
  }
}

/** The directories of content on this disk, by its kind: each resolves when it can be used. */
export type PreparedStores = ReadonlyMap<ContentKind, Promise<void>>;

/** Begins to prepare them, side by side: each waits for the disk. To be called once the data directory is known to be ours. */
export function prepareStores(config: Config, worker: Pick<Worker, 'number'> | undefined): PreparedStores {
  const kinds = CONTENT_KINDS.filter(of => of === 'cache' || !config.content.s3);
  return new Map(
    kinds.map(of => {
      const isShared = of !== 'cache' && !isOfOneMachine(config);
      const prepared = prepareDisk({
        directory: contentFolder(config.dataDir, of),
        staging: stagingOf(worker),
        isShared,
      });
      // Whoever opens the store hears of it.
      prepared.catch(() => {});
      return [of, prepared];
    }),
  );
}

/** Where one kind of content is. */
interface ContentPlace extends ListedStore {
  /** On the file system that has what is on its way in. */
  readonly directory: string;
  /** Turns a verified file into content; absent: it is moved to its place on this disk. */
  readonly commit?: ((path: string, digest: Digest) => Promise<void>) | undefined;
  readonly noteVerified: DiskStore['noteVerified'];
  /** Beside the content, in its bucket; absent on this disk. */
  readonly parts?: UploadParts | undefined;
}

/** Everything but the content of upstreams, which is a cache. */
export type OpenContent = (
  of: Exclude<ContentKind, 'cache'>,
  options: Pick<DiskStoreOptions, 'maxDamagedBytes'> & { readonly onDamaged: (damage: Damage) => void },
) => Promise<ContentPlace>;

/** A bucket, and the cache in front of it. */
interface RemoteContent {
  readonly bucket: Bucket;
  readonly cache: ContentStore & Pick<CountedStore, 'adopt'>;
  readonly noteVerified: DiskStore['noteVerified'];
}

export function createOpenContent({
  config,
  log,
  memory,
  remote,
  records,
  onOpened = () => {},
  worker,
  prepared,
}: {
  readonly config: Pick<Config, 'dataDir' | 'state'>;
  /** Absent: each directory is prepared when its store is opened. */
  readonly prepared?: PreparedStores | undefined;
  readonly log: Logger;
  readonly memory: Memory;
  /** Absent: content is on this disk. */
  readonly remote: RemoteContent | undefined;
  readonly records: RecordStore;
  /** Called with each store. */
  readonly onOpened?: ((stored: StoredContent) => void) | undefined;
  readonly worker?: Pick<Worker, 'number'> | undefined;
}): OpenContent {
  const { dataDir } = config;
  const isShared = !isOfOneMachine(config);
  const onFailed = (digest: Digest, error: unknown) =>
    log.warn({ digest, err: error }, 'a transfer from the object store failed: its readers were cut off');
  return async (of, options) => {
    const directory = contentFolder(dataDir, of);
    const holds = records.locks.areShared && !HELD_OTHERWISE.includes(of) ? createHolds(records, of) : undefined;
    if (remote) {
      // What is not content is here: uploads, and the link journal.
      await mkdir(directory, { recursive: true });
      const { bucket, cache, noteVerified } = remote;
      const { onDamaged } = options;
      const content = createBucketStore({
        ...{ bucket, folder: FOLDERS[of], cache, memory, onDamaged, onFailed },
        damages: createDamageRecords(records, of),
        hold: holds && (digest => holds.hold(digest, LEASE_MS)),
      });
      const { inventory, commit, parts, verify } = content;
      onOpened({ of, verify, ...inventory });
      return { content, inventory, holds, commit, parts, noteVerified, directory: contentFolder(dataDir, 'cache') };
    }
    const place = { directory, staging: stagingOf(worker), isShared, prepared: prepared?.get(of) };
    const content = await createDiskStore({ ...place, memory, ...options });
    const { verify, noteVerified } = content;
    const inventory = createInventory(directory);
    onOpened({ of, verify, ...inventory });
    return { content, inventory, holds, noteVerified, directory };
  };
}

/** These have locks and records of their own that say what has to stay. */
const HELD_OTHERWISE: readonly ContentKind[] = ['hosted', 'tokens'];

function createHolds(records: RecordStore, of: ContentKind): Holds {
  const holds = createCollection({ store: records, name: 'content.hold', schema: z.object({}) });
  const keyOf = (digest: Digest) => `${of} ${digest}`;
  const lockOf = (digest: Digest) => `content/${of}/${digest}`;
  return {
    hold: (digest, ms) => records.locks.withLock(lockOf(digest), () => holds.put(keyOf(digest), {}, { ttlMs: ms })),
    removeUnlessHeld: (digest, remove) =>
      records.locks.withLock(lockOf(digest), async lock => {
        if (await holds.has(keyOf(digest))) return;
        await lock.confirm();
        await remove();
      }),
  };
}

/** What one process has found counts for all, and after a restart. */
function createDamageRecords(records: RecordStore, of: ContentKind): Damages {
  const damages = createCollection({ store: records, name: 'content.damaged', schema: z.object({}) });
  const keyOf = (digest: Digest) => `${of} ${digest}`;
  return {
    has: digest => damages.has(keyOf(digest)),
    add: digest => damages.put(keyOf(digest), {}),
    remove: async digest => void (await damages.delete(keyOf(digest))),
  };
}

/** At most one line for so long. */
const THROTTLED_LOG_MS = 60_000;

/**
 * Undefined where content is on this disk. A service that is away is opened: readiness says so, and it may come back. Throws ConfigError, with the
 * remedy, for one that refuses, and for content on this disk that it does not have. `onThrottled` is called as by openBucket.
 */
export async function openContentBucket(
  { dataDir, content: { s3 } }: Pick<Config, 'dataDir' | 'content'>,
  log: Pick<Logger, 'error' | 'warn' | 'info'>,
  onThrottled: () => void = () => {},
): Promise<Bucket | undefined> {
  if (!s3) return undefined;
  await requireMoved(dataDir, s3);
  const place = { endpoint: s3.endpoint, bucket: s3.bucket };
  let reportedAt = Number.NEGATIVE_INFINITY;
  const bucket = await openBucket(s3, {
    onThrottled() {
      onThrottled();
      if (performance.now() - reportedAt < THROTTLED_LOG_MS) return;
      reportedAt = performance.now();
      log.warn(place, 'the object store asks for fewer requests: they are repeated later');
    },
    onFault(fault) {
      if (fault) log.error({ ...place, reason: fault.message }, 'the object store cannot be used');
      else log.info(place, 'the object store answers again');
    },
  });
  try {
    await bucket.checkAccess();
    return bucket;
  } catch (error) {
    if (error instanceof BucketFault && error.isAway) return bucket;
    bucket.close();
    throw error instanceof BucketFault ? new ConfigError([{ key: 'content.s3', message: error.message }]) : error;
  }
}

/** Why the configured object store cannot be used; undefined where it can, and where there is none. Writes one small object. */
export async function findBucketProblem({ content: { s3 } }: Pick<Config, 'content'>): Promise<string | undefined> {
  if (!s3) return undefined;
  const bucket = await openBucket(s3);
  try {
    await bucket.checkAccess();
    return undefined;
  } catch (error) {
    if (error instanceof BucketFault) return error.message;
    throw error;
  } finally {
    bucket.close();
  }
}

/** What was stored before there was a bucket would be missing. */
async function requireMoved(dataDir: string, { bucket, prefix }: { readonly bucket: string; readonly prefix: string }) {
  for (const of of CONTENT_KINDS) {
    const blobs = join(contentFolder(dataDir, of), 'blobs');
    if (of === 'cache' || !existsSync(blobs)) continue;
    for await (const _ of listContent(contentFolder(dataDir, of))) {
      const command = `aws s3 sync ${blobs} s3://${bucket}/${prefix}${FOLDERS[of]}/blobs`;
      const message = `${blobs} has content that the bucket is to have: run \`${command}\`, and move the folder away`;
      throw new ConfigError([{ key: 'content.s3', message }]);
    }
  }
}

/** The maximum of damaged content that is retained where only a push can repair it: parts of it may be recoverable. */
export const MAX_DAMAGED_BYTES = 1024 ** 3;

interface Damaged extends Damage {
  readonly of: ContentKind;
  /** The full names of the repositories that link it. */
  readonly repositories: readonly string[];
  /** Whether it was restored from memory. */
  readonly isRestored: boolean;
}

export type ReportDamage = (damaged: Damaged) => void;

export function createReportDamage({
  log,
  events,
  onDamaged,
}: {
  readonly log: Logger;
  readonly events: Pick<RegistryEvents, 'damaged'>;
  readonly onDamaged?: ((damaged: Pick<Damaged, 'of' | 'isRestored'>) => void) | undefined;
}): ReportDamage {
  return ({ of, digest, size, reason, setAside, repositories, isRestored }) => {
    const remedy = isRestored ? 'it was restored from memory' : REMEDIES[of];
    log.error(
      { of, digest, size, repositories, setAside, reason },
      `stored content was damaged by the disk: ${remedy}`,
    );
    events.damaged({ digest, size, repositories });
    onDamaged?.({ of, isRestored });
  };
}

const count = z.int().nonnegative();
const digest = z.string().refine(isDigest);

/** Undefined for a record in a format that this version does not know: the round restarts. */
const cursorSchema = z
  .object({
    part: count.max(255),
    after: z.object({ of: z.enum(CONTENT_KINDS), digest }).optional(),
    ...{ count, bytes: count, damaged: count, ranMs: count },
  })
  .optional()
  .catch(undefined);

const KEY = 'place';
const BUCKET_KEY = 'bucket';
const SCRUB_LOCK = 'scrub';

/** Undefined where scrubbing is off. */
export function createScrubbing({
  config,
  log,
  records,
  stores,
  areInBucket = false,
}: {
  readonly config: Pick<Config, 'scrub'>;
  readonly log: Logger;
  /** Of this process, or of all that share the stores. */
  readonly records: RecordStore;
  readonly stores: readonly StoredContent[];
  /** Whether all processes that share the records share the stores: one of them reads at a time. */
  readonly areInBucket?: boolean;
}): Scrubber | undefined {
  const { everyMs, bytesPerSecond } = config.scrub;
  if (everyMs === undefined) return undefined;
  const cursors = createCollection({ store: records, name: 'scrub', schema: cursorSchema });
  const key = areInBucket ? BUCKET_KEY : KEY;
  const exclusively = async (work: () => Promise<void>) =>
    (await records.locks.withFreeLock(SCRUB_LOCK, () => work().then(() => true))) ?? false;
  return startScrubber({
    ...{ stores, everyMs, bytesPerSecond, exclusively: areInBucket ? exclusively : undefined },
    cursors: { find: () => cursors.get(key), save: cursor => cursors.put(key, cursor) },
    onRound: round => logRound(log, round, everyMs),
    onFailed: error => log.error({ err: error }, 'stored content could not be scrubbed: the next round will retry'),
  });
}

/** A slow disk, or a low rate, makes a round take longer than configured. */
function logRound(log: Logger, { count, bytes, damaged, ranMs }: ScrubTotals, everyMs: number): void {
  const facts = { count, bytes, damaged, ranMs };
  if (ranMs > everyMs * 1.1)
    log.warn(facts, 'scrubbed all stored content, but took longer than scrub.every: raise scrub.rate');
  else log.info(facts, 'scrubbed all stored content');
}
