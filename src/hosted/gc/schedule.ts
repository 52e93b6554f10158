// Scheduled garbage collection: due a fixed time after the previous one, across restarts.
import { z } from 'zod';
import { createCollection } from '../../state/collection.ts';
import type { RecordStore } from '../../state/store.ts';
import type { GarbageCollector } from './collector.ts';
import { GcRefused } from './orphans.ts';
import type { GcReport } from './report.ts';

interface GcSchedule {
  /**
   * To be called every few minutes: collects if that is due. Undefined where it is not, where a run is in progress, and where a run was
   * stopped. Rejects with GcRefused once each time it is due.
   */
  runIfDue(): Promise<GcReport | undefined>;
  /** Stops a run in progress, and waits for it. */
  close(): Promise<void>;
}

const KEY = 'last';

export function createGcSchedule(deps: {
  readonly collector: GarbageCollector;
  readonly records: RecordStore;
  readonly now: () => Date;
  /** From the end of one run to the start of the next. */
  readonly everyMs: number;
}): GcSchedule {
  const { collector, records: store, now, everyMs } = deps;
  const schema = z.object({ finishedAt: z.iso.datetime() });
  const runs = createCollection({ store, name: 'hosted.collection', schema });
  const closing = new AbortController();
  let running: Promise<GcReport | undefined> | undefined;
  let refusedAt = Number.NEGATIVE_INFINITY;

  async function run(): Promise<GcReport | undefined> {
    const last = await runs.find(KEY);
    const endedAt = Math.max(last ? Date.parse(last.finishedAt) : 0, refusedAt);
    const sinceMs = now().getTime() - endedAt;
    // A run with a date in the future, from a wrong clock, counts as none.
    if (sinceMs >= 0 && sinceMs < everyMs) return undefined;
    try {
      const report = await collector.collect({ signal: closing.signal });
      await runs.put(KEY, { finishedAt: now().toISOString() });
      return report;
    } catch (error) {
      if (closing.signal.aborted) return undefined;
      // A refused run has read everything: it is retried when the next run is due, or after a restart.
      if (error instanceof GcRefused) refusedAt = now().getTime();
      throw error;
    }
  }

  return {
    async runIfDue() {
      if (running || closing.signal.aborted) return undefined;
      running = run();
      try {
        return await running;
      } finally {
        running = undefined;
      }
    },
    async close() {
      closing.abort(new Error('the service is stopping'));
      await running?.catch(() => {});
    },
  };
}
