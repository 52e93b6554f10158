// Content that no repository links: a crash between bytes and records leaves it, or one between records and the deletion of bytes.
import type { Digest } from '../oci/digest.ts';
import { holdersKey } from './records.ts';
import type { Room } from './room.ts';

/** Deletes what nothing links, while pushes go on. Looks at all content there is: the collection, and a start, need it, nobody else. */
export async function deleteOrphans(room: Room, inventory: AsyncIterable<Digest>): Promise<void> {
  for await (const digest of inventory) {
    const [holder] = await room.records.holders.list({ prefix: holdersKey(digest), limit: 1 });
    if (holder === undefined) await room.exclusively(() => room.deleteUnlinked(digest));
  }
}
