// Builds that several processes share: each knows what waits, claims what it has room for, and takes over what a dead one left. A build is
// claimed under the lock on it: a process that was overtaken changes nothing. One that loses the lock while the records are away goes on, and
// takes it up again unless another process has claimed the build. Without other processes there is nothing to claim: what is queued here runs
// here.
import type { Logger } from 'pino';
import { LEASES } from '../../state/locks.ts';
import { isTransient, type Lock, RecordConflict, type RecordStore } from '../../state/store.ts';
import { BuildStopped } from '../execution.ts';
import type { BuildRecords, CrashHistory, UnderWay } from './build-records.ts';
import type { EndJob } from './end-job.ts';
import { createJob, type Job, type Jobs, type PrepareRun } from './jobs.ts';
import type { LogStore } from './log-store.ts';
import type { Wait } from './notifier.ts';
import type { Queue } from './queue.ts';
import { TAKEN_OVER } from './run-job.ts';

interface Claims {
  /** Runs the build to its end, unless another process does. Never rejects. */
  run(job: Job): Promise<void>;
  /** Queues what any process has submitted or left, forgets what another one has begun, and stops what was cancelled elsewhere. */
  look(): Promise<void>;
  /** Cancels a build that this process does not run; resolves when that is stored, and the build may still be running elsewhere. */
  cancel(id: string): Promise<void>;
}

interface ClaimsDeps {
  readonly store: Pick<RecordStore, 'list' | 'locks'>;
  readonly records: BuildRecords;
  readonly jobs: Jobs;
  readonly queue: Pick<Queue<Job>, 'add' | 'has' | 'remove'>;
  readonly logs: LogStore;
  readonly endJob: EndJob;
  /** As of createRunJob. */
  readonly runJob: (job: Job) => Promise<void>;
  readonly prepareRun?: PrepareRun | undefined;
  /** How often its process may die while a build runs, before the build counts as lost. */
  readonly maxDeaths: number;
  readonly wait: Wait;
  readonly log: Logger;
}

/** How long a build is not taken over after the death of its process. It is renewed three times in this time. */
const LEASE = { ttlMs: 8_000 } as const;
const LOCKS = 'build/';
/** Where this process could not look for so long, the records may have been away for all, and leases have ended of processes that live. */
const GAP_MS = 3_000;
const RETRY_MS = 500;
const UNTIL_IT_PASSES = new AbortController().signal;
const MAX_LISTED = 10_000;
/** A first death may be by chance: from the second on the build runs alone. */
const SUSPECT_DEATHS = 2;

export function createClaims(deps: ClaimsDeps): Claims {
  const { store, records, jobs, queue, logs, endJob, runJob, prepareRun, maxDeaths, wait, log } = deps;
  const { locks } = store;
  const claimed = new Set<string>();
  let lookedAt = performance.now();
  /** Until then no build is taken over: their processes take up the locks again. */
  let patientUntil = 0;

  function forget(job: Job): void {
    jobs.remove(job);
    job.ended.notify();
  }

  async function run(job: Job): Promise<void> {
    if (!locks.areShared) return runJob(job);
    const { id } = job.record;
    if (claimed.has(id)) return;
    claimed.add(id);
    try {
      const work = await claim(job);
      while (work && !work.isOver) await takeUpAgain(job, work);
    } catch (error) {
      if (!isTransient(error)) log.error({ err: error, build: id }, 'a build cannot be claimed');
    } finally {
      claimed.delete(id);
      forget(job);
    }
  }

  /** Resolves when the work is over, or has lost the lock; undefined if there is nothing to do here. */
  async function claim(job: Job): Promise<Work | undefined> {
    const { id } = job.record;
    let work: Work | undefined;
    await locks.withFreeLock(
      LOCKS + id,
      async lock => {
        const claimed = await records.claim(id, lock);
        // Read only now: whoever had it before changes nothing any more.
        const stored = await records.findUnderWay(id);
        if (!stored) return;
        const isCancelled = await records.isCancelRequested(id);
        const isOrphan = stored.record.status === 'running';
        job.own(claimed, isOrphan ? blame(stored) : stored);
        work = createWork(isCancelled ? endJob(job, CANCELLED) : begin(job, isOrphan));
        await keep(job, work, lock);
      },
      LEASE,
    );
    return work;
  }

  async function begin(job: Job, isOrphan: boolean): Promise<void> {
    const { isSuspect, crashes } = job.crashHistory;
    if (crashes >= maxDeaths) {
      const reason = `the service died ${crashes} times while this build was running, which may be the cause`;
      return endJob(job, { failure: { kind: 'lost', reason } });
    }
    if (isOrphan) {
      const alone = isSuspect ? ', alone' : '';
      job.log.add({ kind: 'note', text: `started again: the process that ran it is gone${alone}` });
    }
    await runJob(job);
  }

  async function keep(job: Job, { over }: Work, lock: Lock): Promise<void> {
    job.hold(lock);
    const { promise: lost, resolve } = Promise.withResolvers<void>();
    const onLost = () => resolve();
    lock.lost.addEventListener('abort', onLost, { once: true });
    if (!lock.lost.aborted) await Promise.race([over, lost]);
    // The locks of workers share one signal, which outlives every build.
    lock.lost.removeEventListener('abort', onLost);
  }

  /** Stops the work if another process has claimed the build. Until the records answer, it goes on without the lock. */
  async function takeUpAgain(job: Job, work: Work): Promise<void> {
    const { id } = job.record;
    try {
      const hasHeld = await locks.withFreeLock(
        LOCKS + id,
        async lock => {
          await records.check(job.fence);
          await keep(job, work, lock);
          return true;
        },
        LEASE,
      );
      if (hasHeld) return;
      await records.check(job.fence);
    } catch (error) {
      if (error instanceof RecordConflict) {
        job.stop.abort(new BuildStopped('closing', TAKEN_OVER));
        // Who waits for it here waits for the other process from now on.
        forget(job);
        return work.over;
      }
      if (!isTransient(error)) log.error({ err: error, build: id }, 'a build cannot be claimed again');
    }
    await Promise.race([work.over, wait(RETRY_MS, UNTIL_IT_PASSES)]);
  }

  /** Running builds without a lock: a process takes the lock before it writes that the build runs. */
  async function findOrphans(running: readonly string[]): Promise<readonly string[]> {
    const others = running.filter(id => !claimed.has(id));
    if (others.length === 0) return [];
    const leased = new Set(await store.list(LEASES, { prefix: LOCKS, limit: MAX_LISTED }));
    const now = performance.now();
    if (now - lookedAt > GAP_MS) patientUntil = now + LEASE.ttlMs;
    if (now < patientUntil) return [];
    const orphans: string[] = [];
    // Where locks are no leases, such as those of workers, each has to be tried.
    for (const id of others)
      if (!leased.has(LOCKS + id) && (await locks.withFreeLock(LOCKS + id, async () => true, LEASE))) orphans.push(id);
    return orphans;
  }

  async function enqueue(id: string): Promise<void> {
    const isKnown = () => claimed.has(id) || jobs.get(id) !== undefined;
    const stored = isKnown() ? undefined : await records.findUnderWay(id);
    if (!stored || isKnown()) return;
    const job = open(stored.record.status === 'running' ? blame(stored) : stored);
    jobs.add(job);
    queue.add(job, job.record);
  }

  function open({ record, crashHistory }: UnderWay): Job {
    return createJob(record, { crashHistory, logs, runWork: prepareRun?.(), isShared: true });
  }

  return {
    run,
    async look() {
      const startedAt = performance.now();
      const waiting = jobs.all().filter(queue.has);
      const queued = await records.listIds('queued');
      const orphans = await findOrphans(await records.listIds('running'));
      const free = new Set([...orphans, ...queued]);
      for (const job of waiting) if (!free.has(job.record.id) && queue.remove(job)) forget(job);
      for (const id of free) await enqueue(id);
      for (const { isOwn, record, stop } of jobs.all())
        if (isOwn && (await records.isCancelRequested(record.id))) stop.abort(STOPPED);
      lookedAt = startedAt;
    },
    async cancel(id) {
      await records.requestCancel(id);
      const stored = await records.findUnderWay(id);
      const job = jobs.get(id) ?? (stored && open(stored));
      if (!job) return;
      queue.remove(job);
      await run(job);
    },
  };
}

/** What a process does about a build. */
interface Work {
  readonly isOver: boolean;
  readonly over: Promise<void>;
}

function createWork(promise: Promise<void>): Work {
  let isOver = false;
  const over = promise.finally(() => {
    isOver = true;
  });
  return {
    over,
    get isOver() {
      return isOver;
    },
  };
}

const STOPPED = new BuildStopped('cancelled', 'cancelled');
const CANCELLED = { failure: { kind: 'cancelled', reason: STOPPED.message } } as const;

/** A process that stops notes that its builds do not run any more. */
function blame({ record, crashHistory }: UnderWay): UnderWay {
  if (!crashHistory.isRunning) return { record, crashHistory };
  const crashes = crashHistory.crashes + 1;
  const blamed: CrashHistory = { isRunning: false, isSuspect: crashes >= SUSPECT_DEATHS, crashes };
  return { record, crashHistory: blamed };
}
