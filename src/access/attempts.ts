// Guesses of passwords, counted for a while by who makes them. Memory is bounded: the oldest counts go first.
import { createHash } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { RegistryError } from '../oci/errors.ts';

interface Attempts {
  /** Counts a guess as wrong until `forgive` is called, so that guesses at the same time count too. Throws TOOMANYREQUESTS when there were too many. */
  begin(key: string): Guess;
}

export interface Guess {
  /** The guess was right. */
  readonly forgive: () => void;
}

interface AttemptsOptions {
  readonly max: number;
  /** From the first guess on; then counting begins anew. */
  readonly windowMs: number;
  readonly now: () => Date;
}

/** More than one thread compares in a minute, at the lowest cost that there is: what is counted is not pushed out. */
const MAX_KEYS = 50_000;

/** A client chooses names, of users too: a long one is kept by its hash. */
const MAX_KEY_LENGTH = 64;

export function createAttempts({ max, windowMs, now }: AttemptsOptions): Attempts {
  const counts = new LRUCache<string, number>({
    // By size, not by number: for a number it takes its memory at once.
    maxSize: MAX_KEYS,
    sizeCalculation: () => 1,
    // An entry lives through its last millisecond, and Retry-After must not end within it.
    ttl: windowMs - 1,
    ttlResolution: 0,
    noUpdateTTL: true,
    perf: { now: () => now().getTime() },
  });
  const add = (key: string, change: number) => counts.set(key, (counts.get(key) ?? 0) + change);
  return {
    begin(name) {
      const key = shorten(name);
      if ((counts.get(key) ?? 0) >= max) {
        const retryAfterSeconds = Math.max(1, Math.ceil(counts.getRemainingTTL(key) / 1000));
        throw new RegistryError('TOOMANYREQUESTS', 'too many wrong passwords: wait before the next', {
          retryAfterSeconds,
        });
      }
      add(key, 1);
      return {
        forgive() {
          if (counts.has(key)) add(key, -1);
        },
      };
    },
  };
}

function shorten(name: string): string {
  return name.length <= MAX_KEY_LENGTH ? name : createHash('sha256').update(name).digest('base64');
}
