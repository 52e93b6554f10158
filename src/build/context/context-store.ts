// Where build contexts are kept: each for as long as a build needs it. One that has just come is left alone until its build is known.
import { createDiskStore } from '../../content/disk.ts';
import { listContent } from '../../content/inventory.ts';
import type { ContentStore } from '../../content/store.ts';
import type { Digest } from '../../oci/digest.ts';

export interface ContextStore extends Pick<ContentStore, 'ingest' | 'open' | 'find' | 'close'> {
  /** Removes what came a while ago and is not needed. What is equal to a context on its way in stays for another time. */
  sweep(isNeeded: (digest: Digest) => Promise<boolean>): Promise<void>;
}

export interface ContextStoreDeps {
  readonly directory: string;
  readonly now: () => Date;
}

/** A build is asked for in this time after its context has come. */
const GRACE_MS = 3_600_000;

export async function createContextStore({ directory, now }: ContextStoreDeps): Promise<ContextStore> {
  const content = await createDiskStore({ directory });
  const spared = new Map<Digest, number>();
  let arriving = 0;
  let removal: Promise<unknown> = Promise.resolve();

  function isSpared(digest: Digest): boolean {
    return (spared.get(digest) ?? 0) > now().getTime();
  }

  /** What arrives may have this digest, too: its file would be the one that is removed. */
  async function remove(digest: Digest): Promise<void> {
    if (arriving > 0 || isSpared(digest)) return;
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
      const settle = ingestion.done.then(({ digest }) => void spared.set(digest, now().getTime() + GRACE_MS));
      settle
        .catch(() => {})
        .finally(() => {
          arriving -= 1;
        });
      return ingestion;
    },
    async sweep(isNeeded) {
      for (const digest of spared.keys()) if (!isSpared(digest)) spared.delete(digest);
      for await (const digest of listContent(directory)) {
        if (!isSpared(digest) && !(await isNeeded(digest))) await remove(digest);
      }
    },
  };
}
