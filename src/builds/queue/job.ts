// A build that is under way: what is known of it in memory until its end is stored.
import type { BuildRecord } from '../record.ts';
import { type Bell, createBell } from './bell.ts';
import type { Blame } from './blame.ts';
import type { LiveLog } from './live-log.ts';

export interface Job {
  readonly record: BuildRecord;
  readonly blame: Blame;
  readonly log: LiveLog;
  /** Aborts with a BuildStopped. */
  readonly stop: AbortController;
  /** Rings when it has ended, or there is nothing more to wait for. */
  readonly ended: Bell;
  update(change: Partial<BuildRecord>): void;
}

interface JobOptions {
  readonly blame: Blame;
  readonly log: LiveLog;
}

export function createJob(first: BuildRecord, { blame, log }: JobOptions): Job {
  let record = first;
  return {
    get record() {
      return record;
    },
    blame,
    log,
    stop: new AbortController(),
    ended: createBell(),
    update(change) {
      record = { ...record, ...change };
    },
  };
}

export function hasEnded({ status }: BuildRecord): boolean {
  return status === 'succeeded' || status === 'failed';
}
