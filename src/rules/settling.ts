// Files that somebody writes at this moment: the half of a change is no state. It is left for a later look, though not for ever.
import type { Fingerprint } from './fingerprint.ts';

interface Settling {
  /** Whether what has changed, as it looks now, is to be left for a later look. */
  mustWait(changed: readonly Fingerprint[]): boolean;
}

/** What is written without an end is taken as it is. */
const PATIENCE_MS = 30_000;

export function createSettling(now: () => Date): Settling {
  let since: number | undefined;
  return {
    mustWait(changed) {
      if (changed.every(({ isSettled }) => isSettled)) {
        since = undefined;
        return false;
      }
      since ??= now().getTime();
      return Math.abs(now().getTime() - since) < PATIENCE_MS;
    },
  };
}
