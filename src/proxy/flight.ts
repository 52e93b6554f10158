// Equal work in flight is done once: who asks for the same key while it runs gets the same result.

/** Runs `work` for a key unless it runs already. The work belongs to nobody: a waiter who leaves cancels only his own wait. */
export type Flight<T> = (key: string, work: () => Promise<T>) => Promise<T>;

export function createFlight<T>(): Flight<T> {
  const running = new Map<string, Promise<T>>();
  return (key, work) => {
    const existing = running.get(key);
    if (existing) return existing;
    const started = work().finally(() => running.delete(key));
    running.set(key, started);
    return started;
  };
}
