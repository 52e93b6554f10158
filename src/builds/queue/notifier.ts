// What a build waits for: news that one makes known to many, and time.
import { setTimeout as delay } from 'node:timers/promises';

export interface Notifier {
  /** Wakes all who wait now. */
  notify(): void;
  /** Resolves when it rings next. Rejects with the signal's reason. */
  wait(signal: AbortSignal): Promise<void>;
}

export function createNotifier(): Notifier {
  let waiting = new Set<() => void>();
  return {
    notify() {
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

/** Resolves after so many milliseconds. Rejects when the signal aborts. */
export type Wait = (ms: number, signal: AbortSignal) => Promise<void>;

/** What a timer takes; one of more goes off at once. */
const MAX_MS = 2 ** 31 - 1;

export async function waitFor(ms: number, signal: AbortSignal): Promise<void> {
  await delay(Math.min(ms, MAX_MS), undefined, { signal });
}
