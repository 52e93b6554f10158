// What an earlier process left under way goes on: nothing is ever stuck.
import type { Logger } from 'pino';
import type { BuildRecords, CrashHistory, UnderWay } from './build-records.ts';
import type { EndJob } from './end-job.ts';
import { createJob, type Job, type Jobs } from './jobs.ts';
import type { LogStore } from './log-store.ts';
import type { Queue } from './queue.ts';

interface RestoreDeps {
  readonly records: BuildRecords;
  readonly jobs: Jobs;
  readonly queue: Queue<Job>;
  readonly logs: LogStore;
  readonly endJob: EndJob;
  /** Whether the process that left them ended by itself, by a fault of its own. */
  readonly endedByItself: boolean;
  /** So many such ends while a build ran alone are enough to think that it is their cause. */
  readonly maxStarts: number;
  readonly log: Logger;
}

/** One that cannot go on is no reason for the service not to start. */
export async function restoreJobs(deps: RestoreDeps): Promise<void> {
  const left = await deps.records.listUnderWay();
  const crashHistories = updateCrashHistories(
    left.map(({ crashHistory }) => crashHistory),
    deps.endedByItself,
  );
  for (const [at, underWay] of left.entries()) {
    await restore({ ...underWay, crashHistory: crashHistories[at] ?? underWay.crashHistory }, deps).catch(error => {
      deps.log.error({ err: error, build: underWay.record.id }, 'a build that was under way cannot go on');
    });
  }
}

async function restore({ record, crashHistory }: UnderWay, deps: RestoreDeps): Promise<void> {
  const { records, jobs, queue, logs, endJob, maxStarts, log } = deps;
  const job = createJob(record, { crashHistory, log: logs.create(record.id) });
  jobs.add(job);
  if (crashHistory.crashes >= maxStarts) {
    const reason = `the service ended by itself ${crashHistory.crashes} times while this build alone ran: it may be the cause`;
    return endJob(job, { failure: { kind: 'lost', reason } });
  }
  if (record.status === 'running') {
    job.log.add({
      kind: 'note',
      text: `begun anew after a restart of the service${crashHistory.isSuspect ? ', alone' : ''}`,
    });
    job.update({ status: 'queued' });
    await records.save(job.record, crashHistory).catch(error => {
      log.error({ err: error, build: record.id }, 'that a build waits again cannot be stored');
    });
  }
  queue.add(job, job.record);
}

/** What the end of the process says of all builds that it has left under way, in their order. */
export function updateCrashHistories(left: readonly CrashHistory[], endedByItself: boolean): readonly CrashHistory[] {
  const isAlone = left.filter(({ isRunning }) => isRunning).length === 1;
  return left.map(crashHistory => {
    const wasThere = crashHistory.isRunning && endedByItself;
    return {
      isRunning: false,
      isSuspect: crashHistory.isSuspect || wasThere,
      crashes: crashHistory.crashes + (wasThere && isAlone ? 1 : 0),
    };
  });
}
