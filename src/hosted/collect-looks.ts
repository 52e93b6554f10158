// What clients have asked for of late. Who was told that something is here relies on it: pulls its parts, or leaves them out of a push. Kept
// in memory, the last ones of very many: a look is not worth a write.
import { LRUCache } from 'lru-cache';

export interface Looks {
  /** Notes that a client asks for a record: to be awaited before the record is read for the answer. */
  look(key: string): Promise<void>;
  /** Whether somebody looked after `instant`, ISO 8601 in UTC. */
  isSeenAfter(key: string, instant: string): boolean;
  /**
   * Runs `removal`, unless somebody looked at the record after `instant`; whether it ran. Who looks while it runs waits for its end, and is
   * not told of what is about to go.
   */
  removeUnseen(key: string, instant: string, removal: () => Promise<void>): Promise<boolean>;
}

const MAX_LOOKS = 50_000;

export function createLooks(now: () => Date): Looks {
  // By size, not by number: for a number it takes its memory at once. In milliseconds.
  const seen = new LRUCache<string, number>({ maxSize: MAX_LOOKS, sizeCalculation: () => 1 });
  const removals = new Map<string, Promise<void>>();
  const isSeenAfter: Looks['isSeenAfter'] = (key, instant) => (seen.peek(key) ?? 0) > Date.parse(instant);
  return {
    isSeenAfter,
    async look(key) {
      seen.set(key, now().getTime());
      // Its failure is for who removes.
      await removals.get(key)?.catch(() => {});
    },
    async removeUnseen(key, instant, removal) {
      if (isSeenAfter(key, instant)) return false;
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
