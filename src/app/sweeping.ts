// Periodic cleaning: every few minutes each room removes expired data, and hosted repositories are garbage-collected when that is due.
// Suspended while the clock is not trusted, or the records may be incomplete.
import { setTimeout } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Config } from '../config/schema.ts';
import type { GarbageCollector } from '../hosted/gc/collector.ts';
import { createGcSchedule } from '../hosted/gc/collector.ts';
import { GcRefused } from '../hosted/gc/orphans.ts';
import type { Clock } from '../state/clock.ts';
import type { RecordStore } from '../state/store.ts';

interface Sweeping {
  /** Stops a garbage collection in progress, and waits for it and for a sweep. */
  close(): Promise<void>;
}

const SWEEP_LOCK = 'sweep';
const SWEEP_EVERY_MS = 10 * 60_000;
/** The pause between batches of expired records, for requests to be served. */
const PAUSE_MS = 1000;

export function createSweeping({
  config,
  log,
  clock,
  records,
  reasonToKeep,
  collector,
  sweeps,
  sharedSweeps = [],
  everySweepMs = SWEEP_EVERY_MS,
}: {
  readonly config: Config;
  readonly log: Logger;
  readonly clock: Pick<Clock, 'now' | 'deleteBy'>;
  readonly records: RecordStore;
  /** As for `createHostedStore`. */
  readonly reasonToKeep: () => string | undefined;
  readonly collector: GarbageCollector;
  /** One for each room, of what is on this machine; all run concurrently. */
  readonly sweeps: readonly (() => Promise<unknown>)[];
  /** Of what all processes share that share the records: run by one of them at a time. */
  readonly sharedSweeps?: readonly (() => Promise<unknown>)[] | undefined;
  readonly everySweepMs?: number | undefined;
}): Sweeping {
  const { everyMs } = config.hosted.collect;
  const schedule =
    everyMs === undefined ? undefined : createGcSchedule({ collector, records, now: clock.now, everyMs });

  const logFailure = (error: unknown) => {
    if (error instanceof GcRefused) log.error({ reason: error.message }, 'garbage collection was refused');
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

  /** Never rejects. A failure in one room does not delay the others. */
  async function sweep(): Promise<void> {
    if (!mayDelete()) return;
    await Promise.all([sweepRecords, ...sweeps].map(each => each().catch(logFailure)));
    // Another process that has it sweeps for all; if that dies, the next sweep of any takes over.
    await records.locks.withFreeLock(SWEEP_LOCK, sweepShared).catch(logFailure);
  }

  async function sweepShared(): Promise<void> {
    // Asked again, since the clock may have jumped meanwhile.
    if (!mayDelete()) return;
    await Promise.all(sharedSweeps.map(each => each().catch(logFailure)));
    if (!mayDelete()) return;
    const report = await schedule?.runIfDue().catch(logFailure);
    if (!report) return;
    const { removed, freedBytes, missing } = report;
    log.info({ removed, freedBytes }, 'garbage was collected');
    if (missing.blobs > 0) log.error({ missing }, 'hosted content is damaged or lost: push it again');
  }

  const sweeper = setInterval(() => {
    // A sweep that takes longer than the interval is not overlapped by another.
    running = running.then(sweep);
  }, everySweepMs);
  sweeper.unref();
  return {
    async close() {
      clearInterval(sweeper);
      isClosed.abort();
      await schedule?.close();
      await running;
    },
  };
}
