// Reading no faster than so much a second: whoever has read a piece waits until it is time for the next.
import { setTimeout } from 'node:timers/promises';

interface PaceOptions {
  /** Ends a wait, which throws then. */
  readonly signal?: AbortSignal | undefined;
  /** Whether a wait keeps the process alive. */
  readonly ref?: boolean | undefined;
}

/** From now on: time in which nothing is read is not made up for later. */
export function createPace(bytesPerSecond: number, options: PaceOptions = {}): (bytes: number) => Promise<void> {
  let dueAt = performance.now();
  return async bytes => {
    const now = performance.now();
    dueAt = Math.max(dueAt, now - MAX_LATE_MS) + (bytes / bytesPerSecond) * 1000;
    if (dueAt - now > 1) await setTimeout(dueAt - now, undefined, options);
  };
}

/** What a slow disk may be behind. */
const MAX_LATE_MS = 100;
