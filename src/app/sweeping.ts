// What goes by itself: every few minutes each room drops what is over, and hosted repositories are collected when that is due. Nothing
// of it happens while the clock is ahead of the time that has passed here, or the records may not be all that there were.
import { setTimeout } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Config } from '../config/schema.ts';
import type { GarbageCollector } from '../hosted/gc/collector.ts';
import { GcRefused } from '../hosted/gc/orphans.ts';
import { createGcSchedule } from '../hosted/gc/schedule.ts';
import type { Clock } from '../state/clock.ts';
import type { RecordStore } from '../state/store.ts';

interface SweepingDeps {
  readonly config: Config;
  readonly log: Logger;
  readonly clock: Pick<Clock, 'now' | 'deleteBy'>;
  readonly records: RecordStore;
  /** As of HostedStoreDeps. */
  readonly reasonToKeep: () => string | undefined;
  readonly collector: GarbageCollector;
  /** Each of a room; all run at once. */
  readonly sweeps: readonly (() => Promise<unknown>)[];
  readonly everySweepMs?: number | undefined;
}

interface Sweeping {
  /** Stops a collection that is under way, and waits for it and for a sweep. */
  close(): Promise<void>;
}

const SWEEP_EVERY_MS = 10 * 60_000;
/** Between two parts of records that have expired: requests come first. */
const PAUSE_MS = 1000;

export function createSweeping({
  config,
  log,
  clock,
  records,
  reasonToKeep,
  collector,
  sweeps,
  everySweepMs = SWEEP_EVERY_MS,
}: SweepingDeps): Sweeping {
  const { everyMs } = config.hosted.collect;
  const routine = everyMs === undefined ? undefined : createGcSchedule({ collector, records, now: clock.now, everyMs });

  const tell = (error: unknown) => {
    if (error instanceof GcRefused) log.error({ reason: error.message }, 'the collection was refused');
    else log.error({ err: error }, 'sweep failed');
  };
  const isClosed = new AbortController();
  let running = Promise.resolve();

  const mayDelete = () => !isClosed.signal.aborted && reasonToKeep() === undefined && clock.deleteBy() !== undefined;

  async function sweepRecords(): Promise<void> {
    const pause = { ref: false, signal: isClosed.signal };
    while (mayDelete() && (await records.sweep()) > 0) {
      await setTimeout(PAUSE_MS, undefined, pause).catch(() => {});
    }
  }

  /** Never rejects. What fails in one room holds up no other. */
  async function sweep(): Promise<void> {
    if (!mayDelete()) return;
    await Promise.all([sweepRecords, ...sweeps].map(each => each().catch(tell)));
    if (!mayDelete()) return;
    const report = await routine?.runIfDue().catch(tell);
    if (report) log.info({ removed: report.removed, freedBytes: report.freedBytes }, 'collected');
  }

  const sweeper = setInterval(() => {
    // One that takes longer than the time between two is not joined by another.
    running = running.then(sweep);
  }, everySweepMs);
  sweeper.unref();
  return {
    async close() {
      clearInterval(sweeper);
      isClosed.abort();
      await routine?.close();
      await running;
    },
  };
}
