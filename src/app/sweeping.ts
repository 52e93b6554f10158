// What goes by itself: every few minutes each room drops what is over, and hosted repositories are collected when that is due.
import type { Logger } from 'pino';
import type { Config } from '../config/schema.ts';
import type { Collector } from '../hosted/collect.ts';
import { createRoutine } from '../hosted/collect-routine.ts';
import type { RecordStore } from '../state/store.ts';

export interface SweepingDeps {
  readonly config: Config;
  readonly log: Logger;
  readonly now: () => Date;
  readonly records: RecordStore;
  readonly collector: Collector;
  /** Each of a room; all run at once. */
  readonly sweeps: readonly (() => Promise<unknown>)[];
}

export interface Sweeping {
  /** Stops a collection that is under way, and waits for it. */
  close(): Promise<void>;
}

const SWEEP_EVERY_MS = 10 * 60_000;

export function createSweeping({ config, log, now, records, collector, sweeps }: SweepingDeps): Sweeping {
  const { everyMs } = config.hosted.collect;
  const routine = everyMs === undefined ? undefined : createRoutine({ collector, records, now, everyMs });

  async function sweep(): Promise<void> {
    await Promise.all(sweeps.map(each => each()));
    const report = await routine?.runIfDue();
    if (report) log.info({ removed: report.removed, freedBytes: report.freedBytes }, 'collected');
  }

  const sweeper = setInterval(
    () => void sweep().catch(error => log.error({ err: error }, 'sweep failed')),
    SWEEP_EVERY_MS,
  );
  sweeper.unref();
  return {
    async close() {
      clearInterval(sweeper);
      await routine?.close();
    },
  };
}
