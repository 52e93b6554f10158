// Time as a parameter.
import { setTimeout as delay } from 'node:timers/promises';

/** Resolves after so many milliseconds. Rejects when the signal aborts. */
export type Wait = (ms: number, signal: AbortSignal) => Promise<void>;

/** What a timer takes; one of more goes off at once. */
const MAX_MS = 2 ** 31 - 1;

export async function waitFor(ms: number, signal: AbortSignal): Promise<void> {
  await delay(Math.min(ms, MAX_MS), undefined, { signal });
}
