// A mutex per key, within this process, first come, first served.
import pLimit, { type LimitFunction } from 'p-limit';

interface KeyedMutex {
  /** Runs `work` exclusively under its key. Must not be nested under one key. */
  withLock<T>(key: string, work: () => Promise<T>): Promise<T>;
  /** Whether any work runs or waits under this key. */
  isLocked(key: string): boolean;
}

export function createKeyedMutex(): KeyedMutex {
  const locks = new Map<string, { readonly limit: LimitFunction; users: number }>();
  return {
    async withLock(key, work) {
      const lock = locks.get(key) ?? { limit: pLimit(1), users: 0 };
      locks.set(key, lock);
      lock.users += 1;
      try {
        return await lock.limit(work);
      } finally {
        lock.users -= 1;
        if (lock.users === 0) locks.delete(key);
      }
    },
    isLocked: key => locks.has(key),
  };
}
