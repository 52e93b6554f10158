// One at a time for each key: who comes later waits for all who came before.
import pLimit, { type LimitFunction } from 'p-limit';

interface Turns {
  take<T>(key: string, work: () => Promise<T>): Promise<T>;
  /** Whether anybody works under this key or waits to. */
  isTaken(key: string): boolean;
}

export function createTurns(): Turns {
  const queues = new Map<string, { readonly limit: LimitFunction; users: number }>();
  return {
    async take(key, work) {
      const queue = queues.get(key) ?? { limit: pLimit(1), users: 0 };
      queues.set(key, queue);
      queue.users += 1;
      try {
        return await queue.limit(work);
      } finally {
        queue.users -= 1;
        if (queue.users === 0) queues.delete(key);
      }
    },
    isTaken: key => queues.has(key),
  };
}
