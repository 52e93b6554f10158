// Where no service runs: what `veneer gc` opens in its data directory, and where it asks where one does; what `veneer repair` is for.
import { join } from 'node:path';
import type { Logger } from 'pino';
import { findOwnUrl } from '../config/own-url.ts';
import type { Config } from '../config/schema.ts';
import { createEvents } from '../events/events.ts';
import { openCollector } from '../hosted/collect-in-place.ts';
import { createRegistryEvents } from '../http/distribution/registry-events.ts';
import { createMemory } from '../memory.ts';
import { createTagTest } from '../oci/name-pattern.ts';
import { findReasonToKeep } from '../state/acknowledged.ts';
import { createClock } from '../state/clock.ts';
import { createReserve, createReservedStore } from '../state/reserve.ts';
import { createSqliteStore } from '../state/sqlite.ts';

export function findGcPlace(config: Config, log: Logger, token: string | undefined) {
  const url = findOwnUrl(config);
  return { dataDir: config.dataDir, service: url && { url, token }, openCollector: () => openHere(config, log) };
}

/** Where `veneer repair` works, and which repository gets what belongs to none. */
export function findRepairPlace({ dataDir, hosted }: Config) {
  return { dataDir, recovered: `${hosted.prefixes[0] ?? 'local/'}recovered` };
}

async function openHere({ dataDir, memoryBytes, hosted, events: { endpoints } }: Config, log: Logger) {
  const reserve = createReserve(dataDir);
  const records = createReservedStore(createSqliteStore({ path: join(dataDir, 'records.db') }), reserve);
  const clock = await createClock({ directory: dataDir, onDoubt: doubt => log.warn(doubt) });
  const events = createEvents({ endpoints, records, log });
  const { collect, close } = await openCollector({
    records,
    memory: createMemory(memoryBytes),
    directory: join(dataDir, 'hosted'),
    now: clock.now,
    deleteBy: clock.deleteBy,
    reasonToKeep: () => findReasonToKeep(records.condition),
    policy: { ...hosted.collect, retention: hosted.retention },
    limits: hosted.quotas,
    options: { isImmutable: createTagTest(hosted.immutableTags), onChange: createRegistryEvents(events).changed },
  });
  return {
    collect,
    async close() {
      await close();
      await clock.close();
      await events.close();
      await records.close();
      await reserve.close();
    },
  };
}
