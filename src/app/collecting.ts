// What `veneer gc` opens in the data directory without a service, and the address of a running one; and where `veneer repair` works.
import type { Logger } from 'pino';
import { findOwnUrl } from '../config/own-address.ts';
import type { Config } from '../config/schema.ts';
import { createDiskStore } from '../content/disk.ts';
import { createEvents } from '../events/events.ts';
import { createGarbageCollector } from '../hosted/gc/collector.ts';
import { createQuota } from '../hosted/quota.ts';
import { openLinkJournal } from '../hosted/repair/link-journal.ts';
import { createHostedStore } from '../hosted/store.ts';
import { createRegistryEvents } from '../http/distribution/registry-events.ts';
import { createMemory } from '../memory.ts';
import { createTagTest } from '../oci/name-pattern.ts';
import { findReasonToKeep } from '../state/acknowledged.ts';
import { createClock } from '../state/clock.ts';
import { createReserve } from '../state/reserve.ts';
import { openOwnRecords } from './recording.ts';
import { contentFolder, createOpenContent, openContentBucket } from './stored-content.ts';

export function findGcTarget(config: Config, log: Logger, token: string | undefined) {
  const url = findOwnUrl(config);
  return { dataDir: config.dataDir, service: url && { url, token }, openCollector: () => openHere(config, log) };
}

/** Where `veneer repair` works, and which repository receives manifests that belong to none. */
export function findRepairTarget({ dataDir, hosted }: Config) {
  return { dataDir, recovered: `${hosted.prefixes[0] ?? 'local/'}recovered` };
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
  const openContent = createOpenContent({ config, log, memory, remote });
  const { content, inventory } = await openContent('hosted', { onDamaged() {} });
  const journal = openLinkJournal({ directory, records, now: clock.now });
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
