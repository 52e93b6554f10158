// Content that is stored for as long as something needs it. New or touched content has a lease, during which its use gets recorded. Leases
// do not survive a restart, and records may be lost, so the file's own time counts as well. What several processes share is held by each of
// them that leases or needs it.
import type { Digest } from '../oci/digest.ts';
import type { DiskStore, DiskStoreOptions } from './disk.ts';
import { type ListedStore, openListedDisk } from './inventory.ts';

export interface LeasedStore extends Pick<DiskStore, 'ingest' | 'open' | 'find' | 'delete' | 'verify' | 'close'> {
  /** Renews its lease, as if it had just arrived. Returns whether it is there: it may be being removed at this moment. */
  touch(digest: Digest): Promise<boolean>;
  /** Removes content that is neither leased nor needed; does nothing while content is arriving. */
  sweep(isNeeded: (digest: Digest) => Promise<boolean>): Promise<void>;
}

export interface LeasedStoreDeps extends Pick<DiskStoreOptions, 'memory' | 'onDamaged'> {
  readonly directory: string;
  /** Where the content is. Default: on disk, in the directory. */
  readonly stored?: ListedStore | undefined;
  readonly now: () => Date;
  /** Called before each removal: false while the clock is not trusted. Default: true. */
  readonly mayDelete?: (() => boolean) | undefined;
}

/** Also that of a hold, which outlasts several sweeps. */
export const LEASE_MS = 3_600_000;

export async function createLeasedStore(deps: LeasedStoreDeps): Promise<LeasedStore> {
  const { directory, now, mayDelete = () => true, memory, onDamaged } = deps;
  const stored: ListedStore = deps.stored ?? (await openListedDisk({ directory, memory, onDamaged }));
  const { content, inventory, holds } = stored;
  const leasedUntil = new Map<Digest, number>();
  const heldUntil = new Map<Digest, number>();
  let arriving = 0;
  let removal: Promise<unknown> = Promise.resolve();

  function isLeased(digest: Digest): boolean {
    return (leasedUntil.get(digest) ?? 0) > now().getTime();
  }

  function lease(digest: Digest): void {
    leasedUntil.set(digest, now().getTime() + LEASE_MS);
  }

  /** Renewed when half of its time is over. */
  async function hold(digest: Digest): Promise<void> {
    const until = now().getTime() + LEASE_MS;
    if (!holds || (heldUntil.get(digest) ?? 0) > until - LEASE_MS / 2) return;
    await holds.hold(digest, LEASE_MS);
    heldUntil.set(digest, until);
  }

  async function isOld(digest: Digest): Promise<boolean> {
    const storedAt = await inventory.findStoredAt(digest);
    return storedAt !== undefined && storedAt.getTime() + LEASE_MS <= now().getTime();
  }

  /** Arriving content may have this digest, too: its file would be the one removed. */
  async function remove(digest: Digest): Promise<void> {
    if (arriving > 0 || isLeased(digest) || !mayDelete()) return;
    const removed = holds ? holds.removeUnlessHeld(digest, () => content.delete(digest)) : content.delete(digest);
    removal = removed.catch(() => {});
    await removed;
  }

  return {
    ...content,
    ingest(body, expected) {
      arriving += 1;
      const whenRemoved = new TransformStream<Uint8Array, Uint8Array>({ start: async () => void (await removal) });
      const ingestion = content.ingest(body.pipeThrough(whenRemoved), expected);
      const settled = ingestion.done.then(({ digest }) => lease(digest));
      settled
        .catch(() => {})
        .finally(() => {
          arriving -= 1;
        });
      return ingestion;
    },
    async touch(digest) {
      lease(digest);
      await hold(digest);
      await removal;
      // Another process may have removed what this one remembers.
      if (holds && !(await inventory.findStoredAt(digest))) return false;
      return (await content.find(digest)) !== undefined;
    },
    async sweep(isNeeded) {
      for (const digest of leasedUntil.keys()) if (!isLeased(digest)) leasedUntil.delete(digest);
      for (const [digest, until] of heldUntil) if (until <= now().getTime()) heldUntil.delete(digest);
      for await (const digest of inventory.list()) {
        if (holds && (await isNeeded(digest))) await hold(digest);
        else if (!isLeased(digest) && (await isOld(digest)) && !(await isNeeded(digest))) await remove(digest);
      }
    },
  };
}
