// One at a time for each key: who comes later waits for all who came before.
import pLimit from 'p-limit';

export type TakeTurn = <T>(key: string, work: () => Promise<T>) => Promise<T>;

export function createTurns(): TakeTurn {
  const turns = new Map<string, ReturnType<typeof pLimit>>();
  return async (key, work) => {
    const limit = turns.get(key) ?? pLimit(1);
    turns.set(key, limit);
    try {
      return await limit(work);
    } finally {
      if (limit.activeCount + limit.pendingCount === 0) turns.delete(key);
    }
  };
}
