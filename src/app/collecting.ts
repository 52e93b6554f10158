// Collecting where no service runs: what `veneer gc` opens in its data directory, and where it asks where one does.
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { Config } from '../config/schema.ts';
import { createEvents } from '../events/events.ts';
import { openCollector } from '../hosted/collect-in-place.ts';
import { createRegistryEvents } from '../http/registry-events.ts';
import { createTagTest } from '../oci/name-pattern.ts';
import { createSqliteStore } from '../state/sqlite.ts';

export function findGcPlace(config: Config, log: Logger, token: string | undefined) {
  const { dataDir, listen, publicUrl } = config;
  // An address for all is no address to ask.
  const host = ['0.0.0.0', '::'].includes(listen.host) ? 'localhost' : listen.host;
  const own =
    listen.port === 0 ? publicUrl : new URL(`http://${host.includes(':') ? `[${host}]` : host}:${listen.port}`);
  return { dataDir, service: own && { url: own, token }, openCollector: () => openHere(config, log) };
}

async function openHere({ dataDir, hosted, events: { endpoints } }: Config, log: Logger) {
  const records = createSqliteStore({ path: join(dataDir, 'records.db') });
  const events = createEvents({ endpoints, records, log });
  const { collect, close } = await openCollector({
    records,
    directory: join(dataDir, 'hosted'),
    policy: { ...hosted.collect, retention: hosted.retention },
    limits: hosted.quotas,
    options: { isImmutable: createTagTest(hosted.immutableTags), onChange: createRegistryEvents(events).changed },
  });
  return {
    collect,
    async close() {
      await close();
      await events.close();
      await records.close();
    },
  };
}
