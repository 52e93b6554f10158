// Builds in progress, by id and by spec: their state in memory until the result is stored.
import type { BuildRecord } from '../record.ts';
import type { CrashHistory } from './build-records.ts';
import { splitId } from './id.ts';
import type { LiveLog } from './live-log.ts';
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
  update(change: Partial<BuildRecord>): void;
}

/** Runs the work of a job, which may start in the async context of an unrelated request. */
type RunWork = (job: Job, work: () => Promise<void>) => Promise<void>;

/** Called when a build is submitted or resumed, to capture its context. */
export type PrepareRun = () => RunWork;

export function createJob(
  first: BuildRecord,
  {
    crashHistory,
    log,
    runWork = (_, work) => work(),
  }: { readonly crashHistory: CrashHistory; readonly log: LiveLog; readonly runWork?: RunWork | undefined },
): Job {
  let record = first;
  return {
    get record() {
      return record;
    },
    crashHistory,
    log,
    runWork,
    stop: new AbortController(),
    ended: createNotifier(),
    update(change) {
      record = { ...record, ...change };
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
      jobs.delete(job.record.id);
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
