// Content that no repository links: a crash between bytes and records leaves it, or a deletion that failed.
import type { Digest } from '../oci/digest.ts';
import type { CollectReport } from './collect-report.ts';
import type { Run } from './collect-run.ts';
import { holdersKey } from './records.ts';

/** Looks at all content there is. */
export async function collectOrphans(run: Run, inventory: AsyncIterable<Digest>): Promise<CollectReport['orphans']> {
  const orphans = { blobs: 0, bytes: 0 };
  for await (const digest of inventory) {
    await run.visit();
    const size = await removeOrphan(run, digest);
    if (size === undefined) continue;
    orphans.blobs += 1;
    orphans.bytes += size;
  }
  return orphans;
}

async function removeOrphan({ room, hand }: Run, digest: Digest): Promise<number | undefined> {
  const [holder] = await room.records.holders.list({ prefix: holdersKey(digest), limit: 1 });
  if (holder !== undefined) return undefined;
  return room.exclusively(async () => {
    if (await room.isNeeded(digest)) return undefined;
    const found = await room.content.find(digest);
    if (found) await hand.removeContent({ digest, size: found.size });
    return found?.size;
  });
}
