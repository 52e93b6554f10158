// What clients asked for recently. A client that was told that something is here relies on it: it pulls its parts, or leaves them out of a push.
// Kept in memory, for the latest of very many: an access is not worth a write.
import { LRUCache } from 'lru-cache';

export interface RecentAccess {
  /** Notes that a client asks for a record: to be awaited before the record is read for the answer. */
  touch(key: string): Promise<void>;
  /** Whether a client asked for the record after `instant`, ISO 8601 in UTC. */
  isAccessedAfter(key: string, instant: string): boolean;
  /**
   * Runs `removal`, unless the record was accessed after `instant`; returns whether it ran. An access while it runs waits for its end, so that
   * no client is told of what is about to be removed.
   */
  removeIfIdle(key: string, instant: string, removal: () => Promise<void>): Promise<boolean>;
}

const MAX_RECORDS = 50_000;

export function createRecentAccess(now: () => Date): RecentAccess {
  // In milliseconds. Bounded by size, not by number: for a number it allocates all its memory at once.
  const accessedAt = new LRUCache<string, number>({ maxSize: MAX_RECORDS, sizeCalculation: () => 1 });
  const removals = new Map<string, Promise<void>>();
  const isAccessedAfter = (key: string, instant: string) => (accessedAt.peek(key) ?? 0) > Date.parse(instant);
  return {
    isAccessedAfter,
    async touch(key) {
      accessedAt.set(key, now().getTime());
      // The remover handles its failure.
      await removals.get(key)?.catch(() => {});
    },
    async removeIfIdle(key, instant, removal) {
      if (isAccessedAfter(key, instant)) return false;
      const removing = removal();
      removals.set(key, removing);
      try {
        await removing;
      } finally {
        removals.delete(key);
      }
      return true;
    },
  };
}
