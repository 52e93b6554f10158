// Resumes the builds that an earlier process left unfinished, so that none is stuck. A build that may have crashed the service runs alone,
// and fails as lost after repeated crashes. If the process was killed, for instance for lack of memory, no build is blamed.
import type { Logger } from 'pino';
import type { BuildRecords, CrashHistory, UnderWay } from './build-records.ts';
import type { EndJob } from './end-job.ts';
import { createJob, type Job, type Jobs, type PrepareRun } from './jobs.ts';
import type { LogStore } from './log-store.ts';
import type { Queue } from './queue.ts';

interface RestoreDeps {
  readonly records: BuildRecords;
  readonly jobs: Jobs;
  readonly queue: Queue<Job>;
  readonly logs: LogStore;
  readonly endJob: EndJob;
  /** Whether that process crashed by its own fault. */
  readonly endedByItself: boolean;
  /** The number of crashes while only it was running after which a build is lost. */
  readonly maxStarts: number;
  readonly prepareRun?: PrepareRun | undefined;
  readonly log: Logger;
}

/** A build that cannot be resumed does not keep the service from starting. */
export async function restoreJobs(deps: RestoreDeps): Promise<void> {
  const left = await deps.records.listUnderWay();
  const crashHistories = updateCrashHistories(
    left.map(({ crashHistory }) => crashHistory),
    deps.endedByItself,
  );
  for (const [at, underWay] of left.entries()) {
    await restore({ ...underWay, crashHistory: crashHistories[at] ?? underWay.crashHistory }, deps).catch(error => {
      deps.log.error({ err: error, build: underWay.record.id }, 'an unfinished build cannot be resumed');
    });
  }
}

async function restore({ record, crashHistory }: UnderWay, deps: RestoreDeps): Promise<void> {
  const { records, jobs, queue, logs, endJob, maxStarts, log } = deps;
  const job = createJob(record, { crashHistory, log: logs.create(record.id), runWork: deps.prepareRun?.() });
  jobs.add(job);
  if (crashHistory.crashes >= maxStarts) {
    const reason = `the service crashed ${crashHistory.crashes} times while only this build was running, which may be the cause`;
    return endJob(job, { failure: { kind: 'lost', reason } });
  }
  if (record.status === 'running') {
    job.log.add({
      kind: 'note',
      text: `started again after a restart of the service${crashHistory.isSuspect ? ', alone' : ''}`,
    });
    job.update({ status: 'queued' });
    await records.save(job.record, crashHistory).catch(error => {
      log.error({ err: error, build: record.id }, 'that a build is queued again cannot be stored');
    });
  }
  queue.add(job, job.record);
}

/** The crash history of each unfinished build after the end of the process, in the same order. */
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
