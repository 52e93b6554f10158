// Waiting: for a notification that wakes all waiters, and for time, which tests control.
import { setTimeout as delay } from 'node:timers/promises';

export interface Notifier {
  /** Wakes all current waiters. */
  notify(): void;
  /** Resolves at the next notification. Rejects with the signal's reason. */
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

/** Resolves after `ms` milliseconds. Rejects when the signal aborts. */
export type Wait = (ms: number, signal: AbortSignal) => Promise<void>;

/** The maximum of a timer; a longer one would fire at once. */
const MAX_MS = 2 ** 31 - 1;

export async function waitFor(ms: number, signal: AbortSignal): Promise<void> {
  await delay(Math.min(ms, MAX_MS), undefined, { signal });
}

/** The result of the work, which goes on all the same. Rejects with the signal's reason. */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const leave = () => reject(signal.reason);
  if (signal.aborted) leave();
  signal.addEventListener('abort', leave, { once: true });
  try {
    return await Promise.race([aborted, work]);
  } finally {
    signal.removeEventListener('abort', leave);
  }
}
