// The collector of a registry that no service has open: for whoever owns the data directory meanwhile.
import { createDiskStore } from '../content/disk.ts';
import { createInventory } from '../content/inventory.ts';
import type { Memory } from '../memory.ts';
import type { RecordStore } from '../state/store.ts';
import { type Collector, type CollectPolicy, createCollector } from './collect.ts';
import { openLinkJournal } from './link-journal.ts';
import type { HostedOptions } from './options.ts';
import { createQuota, type QuotaLimit } from './quota.ts';
import { createRoom } from './room.ts';

interface InPlaceDeps {
  /** Closed by the caller. */
  readonly records: RecordStore;
  /** Of the hosted content. */
  readonly directory: string;
  readonly memory: Memory;
  readonly policy: Partial<CollectPolicy>;
  readonly limits: readonly QuotaLimit[];
  readonly options?: Partial<HostedOptions> | undefined;
  readonly now?: (() => Date) | undefined;
  /** As of RoomDeps. */
  readonly reasonToKeep?: (() => string | undefined) | undefined;
  /** As of CollectorOptions. */
  readonly deleteBy?: (() => Date | undefined) | undefined;
}

export interface OpenCollector extends Collector {
  close(): Promise<void>;
}

export async function openCollector(deps: InPlaceDeps): Promise<OpenCollector> {
  const { directory, memory, policy, limits, options, reasonToKeep, now = () => new Date(), deleteBy } = deps;
  const content = await createDiskStore({ directory });
  const journal = openLinkJournal({ directory, records: deps.records, now });
  const { records } = journal;
  const quota = await createQuota({ records, limits });
  const room = createRoom({ content, records, memory, now, options: { ...options, quota }, reasonToKeep });
  const { collect } = createCollector(room, { ...policy, deleteBy, inventory: createInventory(directory) });
  return {
    collect,
    async close() {
      await content.close();
      await journal.close();
    },
  };
}
