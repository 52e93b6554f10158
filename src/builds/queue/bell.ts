// What many wait for and one makes known. A waiter who leaves costs nothing afterwards.

export interface Bell {
  /** Wakes all who wait now. */
  ring(): void;
  /** Resolves when it rings next. Rejects with the signal's reason. */
  wait(signal: AbortSignal): Promise<void>;
}

export function createBell(): Bell {
  let waiting = new Set<() => void>();
  return {
    ring() {
      const woken = waiting;
      waiting = new Set();
      for (const wake of woken) wake();
    },
    wait(signal) {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const wake = () => {
        signal.removeEventListener('abort', leave);
        resolve();
      };
      const leave = () => {
        waiting.delete(wake);
        reject(signal.reason);
      };
      if (signal.aborted) reject(signal.reason);
      else waiting.add(wake);
      signal.addEventListener('abort', leave, { once: true });
      return promise;
    },
  };
}
