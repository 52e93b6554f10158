// Injectable time, so that tests need not sleep.
import { setTimeout as sleep } from 'node:timers/promises';

export interface Clock {
  now(): Date;
  /** Resolves after `ms`; rejects when `signal` aborts. */
  wait(ms: number, signal?: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  now: () => new Date(),
  wait: (ms, signal) => sleep(ms, undefined, signal && { signal }),
};

/**
 * How much of `ms` since `since` is left; 0 where it is over, and where the clock was set back before `since`, which must not extend it.
 */
export function remainingMs(clock: Pick<Clock, 'now'>, since: Date, ms: number): number {
  const passed = clock.now().getTime() - since.getTime();
  return passed < 0 ? 0 : Math.max(0, ms - passed);
}

// Abandonable waits for shared work.

/** The result of the work. Rejects with the signal's reason as soon as that aborts; the work continues. */
export function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const leave = () => reject(signal.reason);
    if (signal.aborted) leave();
    signal.addEventListener('abort', leave, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', leave));
  });
}
