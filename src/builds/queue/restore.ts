// Resumes the builds that an earlier process left unfinished, so that none is stuck. A build that seems to crash the service runs alone at first,
// and fails as lost in the end. A process that was killed, by whomever or for lack of memory, blames no build.
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
  /** Whether that process crashed by itself. */
  readonly endedByItself: boolean;
  /** After so many crashes while only it ran, a build is lost. */
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
    const reason = `the service ended by itself ${crashHistory.crashes} times while only this build ran; it may be the cause`;
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

/** What the end of the process means for each build that it left unfinished, in their order. */
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
