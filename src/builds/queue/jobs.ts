// Builds in progress, by id and by spec: their state in memory until the result is stored.
import { type Expectation, type Lock, RecordConflict } from '../../state/store.ts';
import type { BuildRecord } from '../record.ts';
import type { CrashHistory, UnderWay } from './build-records.ts';
import { splitId } from './id.ts';
import type { LiveLog } from './live-log.ts';
import type { LogStore } from './log-store.ts';
import { createNotifier, type Notifier } from './notifier.ts';

export interface Job {
  readonly record: BuildRecord;
  readonly crashHistory: CrashHistory;
  readonly log: LiveLog;
  /** Aborts with a BuildStopped. */
  readonly stop: AbortController;
  readonly runWork: RunWork;
  /** Notified when the build has ended, or waiting is pointless. */
  readonly ended: Notifier;
  /** Whether this process works on the build, or is the only one that may: where false, the record may have changed since. */
  readonly isOwn: boolean;
  /** Whether other processes may continue it. */
  readonly isShared: boolean;
  /** Expected by each write about the build: that no other process has claimed it since. */
  readonly fence: readonly Expectation[];
  update(change: Partial<BuildRecord>): void;
  /** From now on this process works on the build, under this claim, and continues from what was stored. */
  own(claim: readonly Expectation[], stored: UnderWay): void;
  /** The lock that it has from now on: another one after the records were away for longer than the lease. */
  hold(lock: Lock): void;
  /** As of Lock; waits for the lock where it has to be taken up again. Rejects with the reason of `stop`. */
  confirm(): Promise<void>;
}

/** Runs the work of a job, which may start in the async context of an unrelated request. */
type RunWork = (job: Job, work: () => Promise<void>) => Promise<void>;

/** Called when a build is submitted or resumed, to capture its context. */
export type PrepareRun = () => RunWork;

interface JobOptions {
  readonly crashHistory: CrashHistory;
  readonly logs: Pick<LogStore, 'create'>;
  readonly runWork?: RunWork | undefined;
  readonly isShared: boolean;
}

export function createJob(
  first: BuildRecord,
  { crashHistory: known, logs, runWork = (_, work) => work(), isShared }: JobOptions,
): Job {
  let record = first;
  let crashHistory = known;
  let held: Lock | undefined;
  let fence: readonly Expectation[] = [];
  const stop = new AbortController();
  const holding = createNotifier();
  let isOwn = !isShared;
  return {
    get record() {
      return record;
    },
    get crashHistory() {
      return crashHistory;
    },
    get isOwn() {
      return isOwn;
    },
    get fence() {
      return fence;
    },
    log: logs.create(first.id, () => fence),
    runWork,
    isShared,
    stop,
    ended: createNotifier(),
    update(change) {
      record = { ...record, ...change };
    },
    own(claim, stored) {
      isOwn = true;
      fence = claim;
      ({ record, crashHistory } = stored);
    },
    hold(lock) {
      held = lock;
      holding.notify();
    },
    async confirm() {
      for (;;) {
        const lock = held;
        try {
          return await lock?.confirm();
        } catch (error) {
          if (!(error instanceof RecordConflict)) throw error;
        }
        while (held === lock) await holding.wait(stop.signal);
      }
    },
  };
}

export function hasEnded({ status }: BuildRecord): boolean {
  return status === 'succeeded' || status === 'failed';
}

export interface Jobs {
  add(job: Job): void;
  /** To be called when everything about the job is stored. */
  remove(job: Job): void;
  get(id: string): Job | undefined;
  /** The latest attempt at a spec that has not been removed; it may have ended. */
  findLatest(key: string): Job | undefined;
  all(): readonly Job[];
  /** Queued jobs, of all callers or of one. */
  countQueued(caller?: string): number;
  /** Resolves when the job has ended, was removed, or the service stops. Rejects with the signal's reason. */
  waitFor(job: Job, signal: AbortSignal): Promise<BuildRecord>;
  /** Ends all waits, present and future. */
  close(): void;
}

export function createJobs(): Jobs {
  const jobs = new Map<string, Job>();
  const latest = new Map<string, Job>();
  let isClosed = false;

  return {
    add(job) {
      jobs.set(job.record.id, job);
      latest.set(splitId(job.record.id).key, job);
    },
    remove(job) {
      const { key } = splitId(job.record.id);
      if (jobs.get(job.record.id) === job) jobs.delete(job.record.id);
      if (latest.get(key) === job) latest.delete(key);
    },
    get: id => jobs.get(id),
    findLatest: key => latest.get(key),
    all: () => [...jobs.values()],
    countQueued: caller =>
      jobs
        .values()
        .filter(({ record }) => record.status === 'queued' && (caller === undefined || record.caller === caller))
        .reduce(count => count + 1, 0),
    async waitFor(job, signal) {
      signal.throwIfAborted();
      while (!hasEnded(job.record) && !isClosed && jobs.get(job.record.id) === job) await job.ended.wait(signal);
      return job.record;
    },
    close() {
      isClosed = true;
      for (const { ended } of jobs.values()) ended.notify();
    },
  };
}
