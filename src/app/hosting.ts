// Wires the hosted repositories: their storage, configuration, and hooks.
import { join } from 'node:path';
import type { Logger } from 'pino';
import { findOwnUrl } from '../config/own-address.ts';
import type { Config } from '../config/schema.ts';
import { createDiskStore, type DiskStore } from '../content/disk.ts';
import { createUploadFiles } from '../content/upload-files.ts';
import type { Damage } from '../content/verification.ts';
import { createEvents } from '../events/events.ts';
import { createGarbageCollector, type GarbageCollector } from '../hosted/gc/collector.ts';
import { createQuota } from '../hosted/quota.ts';
import { openLinkJournal } from '../hosted/repair/link-journal.ts';
import { createHostedRepositories, type HostedRepositories } from '../hosted/repositories.ts';
import { createSharedUploads } from '../hosted/repository/shared-uploads.ts';
import { createHostedStore, type HostedChange } from '../hosted/store.ts';
import { createRegistryEvents } from '../http/distribution/registry-events.ts';
import { createMemory, type Memory } from '../memory.ts';
import { createTagTest } from '../oci/name-pattern.ts';
import { createHostedRegistry } from '../pull/registries.ts';
import type { Registry } from '../pull/registry.ts';
import { findReasonToKeep } from '../state/acknowledged.ts';
import { type Clock, createClock } from '../state/clock.ts';
import { createReserve } from '../state/reserve.ts';
import type { RecordStore } from '../state/store.ts';
import { openOwnRecords } from './recording.ts';
import {
  contentFolder,
  createOpenContent,
  isOfOneMachine,
  MAX_DAMAGED_BYTES,
  type OpenContent,
  openContentBucket,
  type ReportDamage,
  stagingOf,
} from './stored-content.ts';
import type { Worker } from './worker.ts';

interface Hosting {
  readonly hosted: HostedRepositories;
  /** To be called every few minutes, while records and content match. */
  sweep(): Promise<void>;
  /** The same, by one of the processes that share the records. */
  sweepShared(): Promise<void>;
  readonly collector: GarbageCollector;
  readonly content: Pick<DiskStore, 'verify'>;
  /** By name: the prefixes without their slash. */
  readonly registries: ReadonlyMap<string, Registry>;
  close(): Promise<void>;
}

/** Stored separately from the cache: pushed content must not be evicted. */
export async function createHosting(deps: {
  readonly config: Config;
  readonly records: RecordStore;
  readonly clock: Pick<Clock, 'now' | 'deleteBy'>;
  readonly memory: Memory;
  /** As for `createHostedStore`. */
  readonly reasonToKeep: () => string | undefined;
  readonly onChange: (change: HostedChange) => unknown;
  readonly reportDamage: ReportDamage;
  readonly openContent: OpenContent;
  readonly worker?: Pick<Worker, 'number'> | undefined;
}): Promise<Hosting> {
  const { config, memory, reasonToKeep, onChange, reportDamage } = deps;
  const { now, deleteBy } = deps.clock;
  const directory = contentFolder(config.dataDir, 'hosted');
  const { content, inventory, commit, parts, noteVerified } = await deps.openContent('hosted', {
    maxDamagedBytes: MAX_DAMAGED_BYTES,
    onDamaged: damage => void restore(damage),
  });
  const journal = openLinkJournal({ directory, records: deps.records, now, isWritten: isOfOneMachine(config) });
  const { records } = journal;
  const { sparse, deletes, uploadTimeoutMs, maxUploads, immutableTags, prefixes, collect, retention, quotas } =
    config.hosted;
  const quota = await createQuota({ records, limits: quotas });
  const isImmutable = createTagTest(immutableTags);
  const limits = { uploadTimeoutMs, maxUploads, keepUploadsAfterMs: KEEP_UPLOADS_AFTER_MS };
  const options = { sparse, deletes, ...limits, isImmutable, quota, onChange };
  const store = createHostedStore({ content, records, memory, now, options, reasonToKeep });
  // One machine sends an upload to the bucket once, when all of it is here. A worker must not remove what others are receiving.
  const own = deps.worker ? join(directory, stagingOf(deps.worker)) : directory;
  const uploadFiles =
    parts && commit && !isOfOneMachine(config)
      ? await createSharedUploads({ directory: own, commit, parts, records: store.records, now })
      : await createUploadFiles({ directory, commit, reopen: content.open, onCommitted: noteVerified });
  const hosted = createHostedRepositories(store, uploadFiles);

  /** Never rejects. */
  async function restore(damage: Damage): Promise<void> {
    const restored = await hosted.restore(damage.digest).catch(() => ({ repositories: [], isRestored: false }));
    reportDamage({ of: 'hosted', ...damage, ...restored });
  }

  const names = prefixes.map(prefix => prefix.slice(0, -1));
  return {
    hosted,
    content,
    sweep: journal.sweep,
    sweepShared: hosted.expireUploads,
    collector: createGarbageCollector(store, {
      ...collect,
      deleteBy,
      retention,
      inventory,
    }),
    registries: new Map(names.map(name => [name, createHostedRegistry(hosted, name)])),
    async close() {
      await hosted.close();
      await content.close();
      await journal.close();
    },
  };
}

/** Long enough for the next request of a client, and short beside what an upload costs that begins anew after a crash. */
const KEEP_UPLOADS_AFTER_MS = 1_000;

// What `veneer gc` opens in the data directory without a service, and the address of a running one; and where `veneer repair` works.

export function findGcTarget(config: Config, log: Logger, token: string | undefined) {
  const url = findOwnUrl(config);
  return { dataDir: config.dataDir, service: url && { url, token }, openCollector: () => openHere(config, log) };
}

/** Where `veneer repair` works, and which repository receives manifests that belong to none. */
export function findRepairTarget({ dataDir, hosted, content }: Config) {
  return { dataDir, isInBucket: content.s3 !== undefined, recovered: `${hosted.prefixes[0] ?? 'local/'}recovered` };
}

async function openHere(config: Config, log: Logger) {
  const {
    dataDir,
    memoryBytes,
    hosted,
    events: { endpoints },
  } = config;
  const reserve = createReserve(dataDir);
  const memory = createMemory(memoryBytes);
  const records = await openOwnRecords(config, reserve, memory);
  const clock = await createClock({ directory: dataDir, onJump: jump => log.warn(jump) });
  const events = createEvents({ endpoints, records, log });
  const directory = contentFolder(dataDir, 'hosted');
  const bucket = await openContentBucket(config, log);
  const cache = bucket && (await createDiskStore({ directory: contentFolder(dataDir, 'cache') }));
  const remote = bucket && cache && { bucket, cache, noteVerified: cache.noteVerified };
  const openContent = createOpenContent({ config, log, memory, remote, records });
  const { content, inventory } = await openContent('hosted', { onDamaged() {} });
  const journal = openLinkJournal({ directory, records, now: clock.now, isWritten: isOfOneMachine(config) });
  const store = createHostedStore({
    content,
    records: journal.records,
    memory,
    now: clock.now,
    reasonToKeep: () => findReasonToKeep(records.condition),
    options: {
      isImmutable: createTagTest(hosted.immutableTags),
      quota: await createQuota({ records: journal.records, limits: hosted.quotas }),
      onChange: createRegistryEvents(events).changed,
    },
  });
  const collector = createGarbageCollector(store, {
    ...{ ...hosted.collect, retention: hosted.retention },
    ...{ inventory, deleteBy: clock.deleteBy },
  });
  return {
    ...collector,
    async close() {
      await content.close();
      await cache?.close();
      bucket?.close();
      await journal.close();
      await clock.close();
      await events.close();
      await records.close();
      await reserve.close();
    },
  };
}
