// Events that gave way to newer ones: counted, and said once a minute at most, for a flood must not flood the log too.
import type { Logger } from 'pino';

interface Overflow {
  count(events: number): void;
  /** Says what has not been said yet. */
  report(): void;
}

const REPORT_EVERY_MS = 60_000;

export function createOverflow({ log, now }: { readonly log: Logger; readonly now: () => Date }): Overflow {
  let dropped = 0;
  let reportedAt = Number.NEGATIVE_INFINITY;
  return { count, report };

  function count(events: number): void {
    dropped += events;
    if (now().getTime() - reportedAt >= REPORT_EVERY_MS) report();
  }

  function report(): void {
    if (dropped === 0) return;
    log.error({ events: dropped }, 'events dropped: too many wait for the endpoint');
    dropped = 0;
    reportedAt = now().getTime();
  }
}
