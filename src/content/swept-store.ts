// Content that is kept for as long as something needs it. What has just come is left alone until it is known what it is for, whoever looks:
// a restart forgets what was spared, and records may be lost, but a file has its own time.
import type { Digest } from '../oci/digest.ts';
import { createDiskStore, type DiskStore, type DiskStoreOptions } from './disk.ts';
import { createInventory } from './inventory.ts';

export interface SweptStore extends Pick<DiskStore, 'ingest' | 'open' | 'find' | 'delete' | 'verify' | 'close'> {
  /** Leaves it alone as if it had just come. Whether it is there: it may be going at this moment. */
  spare(digest: Digest): Promise<boolean>;
  /** Removes what came a while ago and is not needed. What is equal to content on its way in stays for another time. */
  sweep(isNeeded: (digest: Digest) => Promise<boolean>): Promise<void>;
}

export interface SweptStoreDeps extends Pick<DiskStoreOptions, 'memory' | 'onDamaged'> {
  readonly directory: string;
  readonly now: () => Date;
  /** Asked before each removal: false while nobody knows what time it is. Default: it may go. */
  readonly mayDelete?: (() => boolean) | undefined;
}

/** What content is for is known in this time after it has come. */
const GRACE_MS = 3_600_000;

export async function createSweptStore(deps: SweptStoreDeps): Promise<SweptStore> {
  const { directory, now, mayDelete = () => true, memory, onDamaged } = deps;
  const content = await createDiskStore({ directory, memory, onDamaged });
  const inventory = createInventory(directory);
  const spared = new Map<Digest, number>();
  let arriving = 0;
  let removal: Promise<unknown> = Promise.resolve();

  function isSpared(digest: Digest): boolean {
    return (spared.get(digest) ?? 0) > now().getTime();
  }

  function spareFromNow(digest: Digest): void {
    spared.set(digest, now().getTime() + GRACE_MS);
  }

  async function isOld(digest: Digest): Promise<boolean> {
    const keptAt = await inventory.findKeptAt(digest);
    return keptAt !== undefined && keptAt.getTime() + GRACE_MS <= now().getTime();
  }

  /** What arrives may have this digest, too: its file would be the one that is removed. */
  async function remove(digest: Digest): Promise<void> {
    if (arriving > 0 || isSpared(digest) || !mayDelete()) return;
    const removed = content.delete(digest);
    removal = removed.catch(() => {});
    await removed;
  }

  return {
    ...content,
    ingest(body, expected) {
      arriving += 1;
      const whenRemoved = new TransformStream<Uint8Array, Uint8Array>({ start: async () => void (await removal) });
      const ingestion = content.ingest(body.pipeThrough(whenRemoved), expected);
      const settle = ingestion.done.then(({ digest }) => spareFromNow(digest));
      settle
        .catch(() => {})
        .finally(() => {
          arriving -= 1;
        });
      return ingestion;
    },
    async spare(digest) {
      spareFromNow(digest);
      await removal;
      return (await content.find(digest)) !== undefined;
    },
    async sweep(isNeeded) {
      for (const digest of spared.keys()) if (!isSpared(digest)) spared.delete(digest);
      for await (const digest of inventory.list()) {
        if (!isSpared(digest) && (await isOld(digest)) && !(await isNeeded(digest))) await remove(digest);
      }
    },
  };
}
