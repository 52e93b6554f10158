// Wires the hosted repositories: their storage, configuration, and hooks.
import type { Config } from '../config/schema.ts';
import type { DiskStore } from '../content/disk.ts';
import { createUploadFiles } from '../content/upload-files.ts';
import type { Damage } from '../content/verification.ts';
import { createGarbageCollector, type GarbageCollector } from '../hosted/gc/collector.ts';
import { createQuota } from '../hosted/quota.ts';
import { openLinkJournal } from '../hosted/repair/link-journal.ts';
import { createHostedRepositories, type HostedRepositories } from '../hosted/repositories.ts';
import { createHostedStore, type HostedChange } from '../hosted/store.ts';
import type { Memory } from '../memory.ts';
import { createTagTest } from '../oci/name-pattern.ts';
import { createHostedRegistry } from '../pull/registries.ts';
import type { Registry } from '../pull/registry.ts';
import type { Clock } from '../state/clock.ts';
import type { RecordStore } from '../state/store.ts';
import { contentFolder, MAX_DAMAGED_BYTES, type OpenContent, type ReportDamage } from './stored-content.ts';

interface Hosting {
  readonly hosted: HostedRepositories;
  /** To be called every few minutes, while records and content match. */
  sweep(): Promise<void>;
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
}): Promise<Hosting> {
  const { config, memory, reasonToKeep, onChange, reportDamage } = deps;
  const { now, deleteBy } = deps.clock;
  const directory = contentFolder(config.dataDir, 'hosted');
  const { content, inventory, commit, noteVerified } = await deps.openContent('hosted', {
    maxDamagedBytes: MAX_DAMAGED_BYTES,
    onDamaged: damage => void restore(damage),
  });
  const journal = openLinkJournal({ directory, records: deps.records, now });
  const { records } = journal;
  const { sparse, deletes, uploadTimeoutMs, maxUploads, immutableTags, prefixes, collect, retention, quotas } =
    config.hosted;
  const quota = await createQuota({ records, limits: quotas });
  const isImmutable = createTagTest(immutableTags);
  const options = { sparse, deletes, uploadTimeoutMs, maxUploads, isImmutable, quota, onChange };
  const store = createHostedStore({ content, records, memory, now, options, reasonToKeep });
  const hosted = createHostedRepositories(
    store,
    await createUploadFiles({ directory, commit, onCommitted: noteVerified }),
  );

  /** Never rejects. */
  async function restore(damage: Damage): Promise<void> {
    const restored = await hosted.restore(damage.digest).catch(() => ({ repositories: [], isRestored: false }));
    reportDamage({ of: 'hosted', ...damage, ...restored });
  }

  const names = prefixes.map(prefix => prefix.slice(0, -1));
  return {
    hosted,
    content,
    async sweep() {
      await hosted.expireUploads();
      await journal.sweep();
    },
    collector: createGarbageCollector(store, {
      ...collect,
      deleteBy,
      retention,
      inventory,
    }),
    registries: new Map(names.map(name => [name, createHostedRegistry(hosted, name)])),
    async close() {
      await content.close();
      await journal.close();
    },
  };
}
