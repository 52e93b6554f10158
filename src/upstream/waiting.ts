// Time as a parameter, so that nothing has to sleep to show what it does later.
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

/** How much of `ms` since `since` is left; 0 where it is over, and where the clock was set back before `since`: that must not make it longer. */
export function remainingMs(clock: Pick<Clock, 'now'>, since: Date, ms: number): number {
  const passed = clock.now().getTime() - since.getTime();
  return passed < 0 ? 0 : Math.max(0, ms - passed);
}

// Waiting that can be given up, for work that others wait for too.

/** What the work gives. Rejects with the signal's reason as soon as that aborts; the work goes on. */
export function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const leave = () => reject(signal.reason);
    if (signal.aborted) leave();
    signal.addEventListener('abort', leave, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', leave));
  });
}
