// Garbage collection: removes what nothing refers to, and tags that retention expires, from repositories while pushes and pulls continue.
// Each removal, of a tag or some manifests or blobs, is one small step under the lock of its repository, together with the reads that it depends on.
import pLimit from 'p-limit';
import { z } from 'zod';
import type { Inventory } from '../../content/inventory.ts';
import { createCollection } from '../../state/collection.ts';
import type { RecordStore } from '../../state/store.ts';
import { repositoriesOf } from '../records.ts';
import type { HostedStore } from '../store.ts';
import { findMissing, GcRefused, sweepOrphans } from './orphans.ts';
import { addTally, type GcReport, isNothing, NOTHING, type RepositoryReport } from './report.ts';
import { sweepRepository } from './repository.ts';
import { createRetention, type RetentionRule } from './retention.ts';
import { countVisits, createDryRun, createSweeper, type GcRun, type VisitOptions } from './run.ts';

export interface GcPolicy {
  /** Content pushed, mounted or accessed less than this ago is retained: it may belong to a push or pull in progress. */
  readonly graceMs: number;
  /** How long an untagged manifest that nothing refers to is retained; absent: for ever, as its digest may be pinned somewhere. */
  readonly untaggedMs?: number | undefined;
  readonly retention: readonly RetentionRule[];
}

const DEFAULT_POLICY: GcPolicy = { graceMs: 24 * 3600 * 1000, retention: [] };

export interface GarbageCollector {
  /**
   * One run at a time: others wait. Rejects with the reason of `signal` once that aborts; what was removed by then stays removed. Rejects
   * with GcRefused, and removes nothing, where records and content do not match, most of the content would be removed, or the clock has
   * jumped ahead.
   */
  collect(options?: GcOptions): Promise<GcReport>;
}

export interface GcOptions extends VisitOptions {
  /** Changes nothing; reports what a run would do. */
  readonly dryRun?: boolean | undefined;
  /** Removes unlinked content even where it is most of the content, and trusts the clock in any case. */
  readonly force?: boolean | undefined;
}

export function createGarbageCollector(
  store: HostedStore,
  options: Partial<GcPolicy> & {
    /** Of the store's content. */
    readonly inventory: Inventory;
    /** The time for deletion by age; undefined while the clock is not trusted. Default: the store's time. */
    readonly deleteBy?: (() => Date | undefined) | undefined;
  },
): GarbageCollector {
  const { inventory, deleteBy = store.now, ...policy } = { ...DEFAULT_POLICY, ...options };
  const retention = createRetention(policy.retention);
  const lock = pLimit(1);

  function start(startedAt: Date, { dryRun = false, ...visits }: Omit<GcOptions, 'force'>): GcRun {
    const before = (ms: number) => new Date(startedAt.getTime() - ms).toISOString();
    const { graceMs, untaggedMs } = policy;
    return {
      store,
      sweeper: dryRun ? createDryRun(store, startedAt) : createSweeper(store, startedAt),
      retention,
      startedAt,
      graceBefore: before(graceMs),
      untaggedBefore: untaggedMs === undefined ? undefined : before(Math.max(untaggedMs, graceMs)),
      ...countVisits(visits),
    };
  }

  async function collect({ force = false, ...options }: GcOptions): Promise<GcReport> {
    const reason = store.reasonToKeep();
    if (reason !== undefined) throw new GcRefused(`nothing was collected: ${reason}`);
    const startedAt = force ? store.now() : deleteBy();
    if (!startedAt) throw new GcRefused(`nothing was collected: ${JUMPED}`);
    const run = start(startedAt, options);
    const orphans = await sweepOrphans(run, { inventory, force });
    const repositories: RepositoryReport[] = [];
    let [removed, kept] = [NOTHING, NOTHING];
    for await (const repository of repositoriesOf(store.records)) {
      const report = await sweepRepository(run, repository);
      removed = addTally(removed, report.removed);
      kept = addTally(kept, report.kept);
      if (!isNothing(report.removed)) repositories.push(report);
      run.finishRepository();
    }
    await run.sweeper.finish();
    const missing = await findMissing(run, inventory);
    return {
      dryRun: options.dryRun ?? false,
      startedAt: run.startedAt.toISOString(),
      finishedAt: store.now().toISOString(),
      repositories,
      removed,
      kept,
      orphans,
      missing,
      freedBytes: run.sweeper.freedBytes,
    };
  }

  return { collect: (options = {}) => lock(() => store.locks.withLock(GC_LOCK, () => collect(options))) };
}

/** Of all processes. Each step has the lock of its repository besides, so a run that lost this one does no harm. */
const GC_LOCK = 'hosted-collection';

const JUMPED =
  'the clock has jumped ahead, and recent content may look old enough to be removed. The log says by how much; use --force to collect anyway';

// Scheduled garbage collection: due a fixed time after the previous one, across restarts.

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
