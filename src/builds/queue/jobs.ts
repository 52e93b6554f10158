// Builds that are under way, by id and by spec: what is known of each in memory until its end is stored.
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
  /** Rings when it has ended, or there is nothing more to wait for. */
  readonly ended: Notifier;
  update(change: Partial<BuildRecord>): void;
}

interface JobOptions {
  readonly crashHistory: CrashHistory;
  readonly log: LiveLog;
}

export function createJob(first: BuildRecord, { crashHistory, log }: JobOptions): Job {
  let record = first;
  return {
    get record() {
      return record;
    },
    crashHistory,
    log,
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
  /** To be called when nothing is left to be stored of it. */
  remove(job: Job): void;
  get(id: string): Job | undefined;
  /** The latest attempt of a spec that has not been removed; it may have ended. */
  findLatest(key: string): Job | undefined;
  all(): readonly Job[];
  /** Those that wait, of all callers or of one. */
  countQueued(caller?: string): number;
  /** Resolves when the job has ended, or there is nothing more to wait for. Rejects with the signal's reason. */
  waitFor(job: Job, signal: AbortSignal): Promise<BuildRecord>;
  /** Nothing is waited for from now on. */
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
