// The content of upstreams, kept within its budget: for the service, and for `veneer cache` where no service runs.
import { join } from 'node:path';
import type { Logger } from 'pino';
import { type CacheDesk, createCacheDesk } from '../cache/desk.ts';
import { createHolderTest } from '../cache/links.ts';
import { findOwnUrl } from '../config/own-url.ts';
import type { Config } from '../config/schema.ts';
import { type CountedStore, createCountedStore } from '../content/counted-store.ts';
import { createDiskStore } from '../content/disk.ts';
import { type Budget, createEvict } from '../content/eviction.ts';
import { createHousekeeping, type EvictionRun, type Housekeeping } from '../content/housekeeping.ts';
import { createUsage } from '../content/usage.ts';
import { createUseTimes } from '../content/use-times.ts';
import { createNameTest } from '../oci/name-pattern.ts';
import { createLinks, type Links } from '../proxy/kept/links.ts';
import { type Clock, createClock } from '../state/clock.ts';
import { createSqliteStore } from '../state/sqlite.ts';
import type { RecordStore } from '../state/store.ts';

export interface CachingDeps {
  readonly config: Config;
  readonly log: Logger;
  readonly clock: Pick<Clock, 'now' | 'deleteBy'>;
  readonly records: RecordStore;
  /** False: nothing goes by itself. */
  readonly isServing?: boolean;
}

const UNLIMITED: Budget = { highBytes: undefined, lowBytes: 0, maxAgeMs: undefined };

/** How long a transfer that may never end goes on when its clients have left. */
const UNSIZED_GRACE_MS = 10_000;

export interface Caching {
  readonly content: CountedStore;
  readonly links: Links;
  readonly desk: CacheDesk;
  /** To be called every few minutes. */
  sweep(): Promise<void>;
  close(): Promise<void>;
}

export async function createCaching({ config, log, clock, records, isServing = true }: CachingDeps): Promise<Caching> {
  const { now, deleteBy } = clock;
  const directory = join(config.dataDir, 'content');
  let keeping: Housekeeping | undefined;
  const { budget, pin, abandonedMs } = config.cache;
  const kept = await createDiskStore({
    directory,
    claimPlace: need => keeping?.claim(need),
    unread: { graceMs: Math.min(UNSIZED_GRACE_MS, abandonedMs), finishMs: abandonedMs },
  });
  const usage = createUsage();
  const times = createUseTimes({ directory });
  const links = createLinks(records);
  const content = createCountedStore({
    ...{ content: kept, usage, times, now },
    onKept: () => keeping?.check(),
    onFull: bytes => keeping?.makeRoom(bytes),
  });
  const isPinned = pin.length === 0 ? async () => false : createHolderTest(links, createNameTest(pin));
  const { isArriving } = content;
  const evict = createEvict({ content: kept, usage, isArriving, isPinned, unlink: links.forget });
  const housekeeping = createHousekeeping({
    ...{ usage, times, evict, now, budget: isServing ? budget : UNLIMITED },
    onEvicted: run => tell(log, run),
    onFailed: error => log.error({ err: error }, 'making room in the cache failed'),
  });
  keeping = housekeeping;
  const { counted } = housekeeping;
  const service = isServing ? { isCounted: () => housekeeping.isCounted, counts: content.counts } : undefined;
  const desk = createCacheDesk({
    ...{ content: kept, remove: content.delete, usage, times, links, evict, budget, pin, deleteBy, counted, service },
  });
  return {
    ...{ content, links, desk },
    sweep: housekeeping.sweep,
    async close() {
      await housekeeping.close();
      await content.close();
    },
  };
}

function tell(log: Logger, { reason, count, bytes, leftBytes, isShort }: EvictionRun): void {
  const facts = { reason, count, freedBytes: bytes, leftBytes };
  if (isShort) log.warn(facts, 'the cache made what room it can: what is left is pinned, or in use');
  else log.info(facts, 'the cache made room');
}

/** What `veneer cache` opens in the data directory, and where it asks where a service has it open. */
export function findCachePlace(config: Config, log: Logger, token: string | undefined) {
  const url = findOwnUrl(config);
  return { dataDir: config.dataDir, service: url && { url, token }, openDesk: () => openHere(config, log) };
}

async function openHere(config: Config, log: Logger) {
  const records = createSqliteStore({ path: join(config.dataDir, 'records.db') });
  const clock = await createClock({ directory: config.dataDir, onDoubt: doubt => log.warn(doubt) });
  const { desk, close } = await createCaching({ config, log, records, clock, isServing: false });
  return {
    ...desk,
    async close() {
      await close();
      await clock.close();
      await records.close();
    },
  };
}
