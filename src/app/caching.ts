// Wires the cache of upstream content and its budget: for the service, and for `veneer cache` without one.
import { existsSync } from 'node:fs';
import type { Logger } from 'pino';
import { type CacheAdmin, createCacheAdmin, createHolderTest } from '../cache/admin/cache-admin.ts';
import { type CountedStore, createCountedStore } from '../cache/eviction/counted-store.ts';
import { type Budget, createEvict } from '../cache/eviction/evict.ts';
import { createHousekeeping, type EvictionRun } from '../cache/eviction/housekeeping.ts';
import { createSharedUsage } from '../cache/eviction/shared-usage.ts';
import { createUsage, createUseTimes, type Usage } from '../cache/eviction/usage.ts';
import { createBucketStore } from '../cache/read-through/bucket-store.ts';
import { createLinks, createSharedLinks, isAway, type Links } from '../cache/read-through/links.ts';
import { createSharedContent } from '../cache/read-through/shared-content.ts';
import { createTurns, type Turns } from '../cache/read-through/single-flight.ts';
import { findOwnUrl } from '../config/own-address.ts';
import type { Config } from '../config/schema.ts';
import type { Bucket } from '../content/bucket.ts';
import { createDiskStore, type DiskStore } from '../content/disk.ts';
import { CONTENT_KINDS, createInventory, type StoredContent } from '../content/inventory.ts';
import type { ContentStore } from '../content/store.ts';
import type { Damage } from '../content/verification.ts';
import { createMemory, type Memory } from '../memory.ts';
import { createNameTest } from '../oci/name-pattern.ts';
import { type Clock, createClock } from '../state/clock.ts';
import { createReserve } from '../state/reserve.ts';
import type { RecordStore } from '../state/store.ts';
import { openCacheRecords } from './recording.ts';
import {
  contentFolder,
  isOfOneMachine,
  MAX_DAMAGED_BYTES,
  type PreparedStores,
  type ReportDamage,
  stagingOf,
} from './stored-content.ts';
import type { Worker } from './worker.ts';

/** The share of memory for its metadata: besides the caches it may have a third of what they have. */
const BYTES_PER_CONTENT = 256;

const EVICTION_LOCK = 'cache-eviction';

const UNLIMITED: Budget = { highBytes: undefined, lowBytes: 0, maxAgeMs: undefined };

/** How long a transfer continues when its clients have left, whatever its progress. */
const GRACE_MS = 10_000;

export interface Caching {
  /** On this machine. */
  readonly content: CountedStore;
  readonly upstreams: UpstreamContent;
  readonly stored: StoredContent;
  readonly noteVerified: DiskStore['noteVerified'];
  /** The current size. */
  readonly usage: Pick<Usage, 'bytes' | 'count'>;
  /** Everything that can be verified. */
  createAdmin(stores: readonly StoredContent[]): CacheAdmin;
  /** To be called every few minutes. */
  sweep(): Promise<void>;
  close(): Promise<void>;
}

/** What upstreams have sent: to this cache, or to any that shares its content. */
interface UpstreamContent {
  readonly content: ContentStore;
  readonly links: Links;
  readonly turns?: Turns | undefined;
}

export async function createCaching(deps: {
  readonly config: Config;
  readonly log: Logger;
  readonly clock: Pick<Clock, 'now' | 'deleteBy'>;
  readonly records: RecordStore;
  readonly memory: Memory;
  /** False: nothing is evicted automatically. */
  readonly isServing?: boolean;
  /** Absent: the directory is prepared here. */
  readonly prepared?: PreparedStores | undefined;
  /** Content on the disk is counted once this resolves. Default: at once. */
  readonly listening?: Promise<void> | undefined;
  readonly reportDamage: ReportDamage;
  /** Where content is shared with other caches, with the records of all; absent: it is not. */
  readonly shared?: { readonly bucket: Bucket; readonly records: RecordStore } | undefined;
  /** Absent: this process alone has the cache. */
  readonly worker?: Worker | undefined;
  readonly onEvicted?: ((run: EvictionRun) => void) | undefined;
}): Promise<Caching> {
  const { config, log, clock, records, memory, isServing = true, reportDamage, worker } = deps;
  const { now, deleteBy } = clock;
  const directory = contentFolder(config.dataDir, 'cache');
  const { budget, pin, abandonedMs, finish } = config.cache;
  const diskStore = await createDiskStore({
    directory,
    memory,
    staging: stagingOf(worker),
    prepared: deps.prepared?.get('cache'),
    // Called only when content is stored, after all of this exists.
    claimBudget: need => housekeeping.claim(need),
    onDamaged: damage => void reportLoss(damage),
    unread: {
      graceMs: Math.min(GRACE_MS, abandonedMs),
      finishMs: abandonedMs,
      isWorthFinishing: (bytes, size) => bytes >= size * finish.part || size - bytes <= finish.restBytes,
    },
  });
  const maxCount = Math.floor(memory.maxBytes / BYTES_PER_CONTENT);
  const sharedUsage = worker && createSharedUsage(createUsage(), { worker: worker.number, ...worker.peers });
  const usage = sharedUsage ?? createUsage();
  const times = createUseTimes({ directory });
  const links = createLinks(records, memory);

  /** Never rejects. */
  async function reportLoss(damage: Damage): Promise<void> {
    usage.forget(damage.digest);
    const repositories = await links.holdersOf(damage.digest).catch(() => []);
    reportDamage({ of: 'cache', ...damage, repositories, isRestored: false });
  }

  const content = createCountedStore({
    ...{ content: diskStore, usage, times, now },
    onStored: () => housekeeping.check(),
    onFull: bytes => housekeeping.makeRoom(bytes),
  });
  const isPinned = pin.length === 0 ? async () => false : createHolderTest(links, createNameTest(pin));
  const { isArriving } = content;
  const evict = createEvict({ content: diskStore, usage, isArriving, isPinned, unlink: links.forget });
  const housekeeping = createHousekeeping({
    ...{ usage, times, evict, now, budget: isServing ? { ...budget, maxCount } : UNLIMITED },
    onEvicted(run) {
      logEviction(log, run);
      deps.onEvicted?.(run);
    },
    onFailed: error => log.error({ err: error }, 'eviction from the cache failed'),
    mayBegin: deps.listening,
    exclusively: worker && (work => worker.locks.withLock(EVICTION_LOCK, work)),
    arrivingElsewhere: sharedUsage?.arrivingElsewhere,
    onArriving: sharedUsage?.setArriving,
  });
  const { counted } = housekeeping;
  const service = isServing ? { isCounted: () => housekeeping.isCounted, counts: content.counts } : undefined;
  return {
    ...{ content, usage },
    upstreams: shareContent({ content, links, onDamaged: damage => void reportLoss(damage) }, deps),
    stored: { of: 'cache', ...createInventory(directory), verify: diskStore.verify },
    noteVerified: diskStore.noteVerified,
    createAdmin: all => createCacheAdmin({ usage, stores: all, links, evict, budget, pin, deleteBy, counted, service }),
    sweep: housekeeping.sweep,
    async close() {
      await housekeeping.close();
      await content.close();
    },
  };
}

function shareContent(
  own: { readonly content: CountedStore; readonly links: Links; readonly onDamaged: (damage: Damage) => void },
  {
    shared,
    worker,
    log,
    memory,
    clock,
  }: Pick<Parameters<typeof createCaching>[0], 'shared' | 'worker' | 'log' | 'memory' | 'clock'>,
): UpstreamContent {
  const { content: cache, links, onDamaged } = own;
  if (!shared) return { content: cache, links, turns: worker && createTurns(worker.locks) };
  const { bucket, records } = shared;
  const inBucket = createBucketStore({
    ...{ bucket, folder: SHARED_FOLDER, cache, memory, onDamaged },
    onFailed: (digest, error) => log.warn({ digest, err: error }, 'a transfer from the object store failed'),
  });
  const onFailed = (error: Error) =>
    log.warn(
      { reason: error.message },
      'content of upstreams cannot be shared: it is fetched by each cache for itself',
    );
  return {
    content: createSharedContent({ cache, shared: inBucket, onFailed }),
    links: createSharedLinks(links, records, clock.now),
    turns: records.locks.areShared ? createTurns(records.locks, { isAway: () => isAway(records) }) : undefined,
  };
}

/** In the bucket. */
const SHARED_FOLDER = 'content';

function logEviction(log: Logger, { reason, count, bytes, leftBytes, isShort }: EvictionRun): void {
  const facts = { reason, count, freedBytes: bytes, leftBytes };
  if (isShort) log.warn(facts, 'the cache is over its limit: the rest is pinned or in use');
  else log.info(facts, 'evicted content from the cache');
}

/** What `veneer cache` opens in the data directory, and the address of a service that has it open. */
export function findCacheTarget(config: Config, log: Logger, token: string | undefined) {
  const url = findOwnUrl(config);
  return { dataDir: config.dataDir, service: url && { url, token }, openCacheAdmin: () => openHere(config, log) };
}

async function openHere(config: Config, log: Logger) {
  await using opened = new AsyncDisposableStack();
  const reserve = createReserve(config.dataDir);
  opened.defer(() => reserve.close());
  const memory = createMemory(config.memoryBytes);
  const records = openCacheRecords(config, reserve);
  opened.defer(() => records.close());
  const clock = await createClock({ directory: config.dataDir, onJump: jump => log.warn(jump) });
  opened.defer(() => clock.close());
  const caching = await createCaching({
    ...{ config, log, records, clock, memory, isServing: false },
    reportDamage() {},
  });
  opened.defer(() => caching.close());
  const others = await openOthers(config, opened);
  const resources = opened.move();
  return { ...caching.createAdmin([caching.stored, ...others]), close: () => resources.disposeAsync() };
}

/** Stored content other than the cache of upstreams. */
async function openOthers(config: Config, opened: AsyncDisposableStack): Promise<readonly StoredContent[]> {
  const isShared = !isOfOneMachine(config);
  const stores: StoredContent[] = [];
  for (const of of CONTENT_KINDS) {
    const directory = contentFolder(config.dataDir, of);
    if (of === 'cache' || !existsSync(directory)) continue;
    const store = await createDiskStore({
      directory,
      isShared,
      ...(of === 'hosted' && { maxDamagedBytes: MAX_DAMAGED_BYTES }),
    });
    opened.defer(() => store.close());
    stores.push({ of, ...createInventory(directory), verify: store.verify });
  }
  return stores;
}
