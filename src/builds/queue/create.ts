// Builds: wires the scheduler, the queue, the executors, the records and the logs.
import type { Logger } from 'pino';
import type { Digest } from '../../oci/digest.ts';
import { isTransient, type RecordStore } from '../../state/store.ts';
import type { Builds } from '../builds.ts';
import { BuildStopped } from '../execution.ts';
import type { BuildRecord } from '../record.ts';
import {
  type BuildRecords,
  type CrashHistory,
  createBuildRecords,
  UNDER_WAY_MS,
  type UnderWay,
} from './build-records.ts';
import { createClaims } from './claims.ts';
import { createEndJob, type EndJob } from './end-job.ts';
import { createJob, createJobs, hasEnded, type Job, type Jobs, type PrepareRun } from './jobs.ts';
import { createDiskLogs, type Redact } from './log-file.ts';
import { createRecordLogs } from './log-records.ts';
import { createLogStore, type LogStore } from './log-store.ts';
import { unlessAborted, type Wait, waitFor } from './notifier.ts';
import { createQueue, type Queue } from './queue.ts';
import { createRunJob, type Executors, type RunAs, type RunPolicy } from './run-job.ts';
import { createBuildScheduler, type SubmitPolicy } from './submit.ts';

export interface BuildsPolicy extends RunPolicy, SubmitPolicy {
  /** How long records and logs are retained after the end of a build. */
  readonly keepMs: number;
  /** For the log of one build: beyond it, the middle of the log is omitted. */
  readonly maxLogBytes: number;
  /** How often the service may crash while only this build runs, before the build counts as lost. */
  readonly maxStarts: number;
}

export interface BuildsDeps {
  readonly records: RecordStore;
  /** The directory of the logs; created if absent. */
  readonly directory: string;
  readonly executors: Executors;
  readonly runAs?: RunAs | undefined;
  /** Wraps the work of builds, for instance in the context of their submit. Default: no wrapper. */
  readonly prepareRun?: PrepareRun | undefined;
  /** Whether the image's tag still points to this digest, with all its content. */
  readonly imageExists: (image: string, digest: Digest) => Promise<boolean>;
  readonly policy: BuildsPolicy;
  /** Removes the build contexts that no record needs. */
  readonly sweepContexts?: ((isNeeded: (digest: Digest) => Promise<boolean>) => Promise<void>) | undefined;
  /** Masks secrets in a line. */
  readonly redact: Redact;
  /** Called once for each build, when its result is durable. */
  readonly onEnded: (record: BuildRecord) => void;
  /** Whether the previous process crashed by its own fault. Default: it was stopped or killed. */
  readonly endedByItself?: boolean | undefined;
  readonly log: Logger;
  readonly now?: () => Date;
  readonly wait?: Wait;
}

/**
 * Resumes the builds that an earlier process left unfinished. Where the records are shared with other processes, so are the builds: each
 * runs what it has room for, and continues what a dead one left.
 */
export async function createBuilds({
  now = () => new Date(),
  wait = waitFor,
  endedByItself = false,
  ...deps
}: BuildsDeps): Promise<Builds> {
  const { directory, policy, redact, log } = deps;
  const { locks } = deps.records;
  const closing = new AbortController();
  const jobs = createJobs();
  const records = createBuildRecords({ records: deps.records, keepMs: policy.keepMs, now, log });
  const onDisk = await createDiskLogs({ directory, now });
  const files = locks.areShared
    ? createRecordLogs({ records: deps.records, keepMs: policy.keepMs + UNDER_WAY_MS, earlier: onDisk })
    : onDisk;
  const logs = createLogStore({ files, maxBytes: policy.maxLogBytes, redact, now, log });
  const endJob = createEndJob({ ...deps, records, jobs, now, wait, closing: closing.signal });
  const runJob = createRunJob({ ...deps, records, endJob, now, wait });
  const queue = createQueue<Job>({
    concurrency: policy.concurrency,
    maxAnonymous: policy.limitsAnonymous ? Math.max(1, policy.concurrency - 1) : undefined,
    mustRunAlone: ({ crashHistory }) => crashHistory.isSuspect,
    run: job => claims.run(job),
  });
  const maxDeaths = policy.maxStarts + DEATHS_BY_CHANCE;
  const claims = createClaims({
    ...{ ...deps, store: deps.records, records, jobs, queue, logs, endJob, runJob, maxDeaths, wait },
  });
  const scheduler = createBuildScheduler({ ...deps, records, jobs, queue, logs, locks, now, closing: closing.signal });
  const cancelOwn = createCancel({ jobs, queue, endJob });
  const restoring = { ...deps, records, jobs, queue, logs, endJob, maxStarts: policy.maxStarts, endedByItself };
  if (!locks.areShared) await restoreJobs(restoring);
  queue.open();
  const looking = locks.areShared ? keepLooking() : undefined;

  /** Until the service stops. */
  async function keepLooking(): Promise<void> {
    let reported: string | undefined;
    while (!closing.signal.aborted) {
      try {
        await claims.look();
        reported = undefined;
      } catch (error) {
        const reason = String(error);
        if (!isTransient(error) && reason !== reported) log.error({ err: error }, 'the queue of builds cannot be read');
        reported = reason;
      }
      await wait(LOOK_MS, closing.signal).catch(() => {});
    }
  }

  const findOwn = (id: string) => {
    const job = jobs.get(id);
    return job?.isOwn ? job : undefined;
  };
  const find = async (id: string) => findOwn(id)?.record ?? (await records.find(id)) ?? jobs.get(id)?.record;
  const isKnown = async (id: string) => (await records.find(id)) !== undefined || jobs.get(id) !== undefined;

  const isOver = async (id: string) => {
    const record = closing.signal.aborted ? undefined : await records.find(id);
    return record === undefined || hasEnded(record);
  };

  /** While the records are away, those who wait for a build of several processes wait on. */
  async function findUnlessAway(id: string): Promise<BuildRecord | 'away' | undefined> {
    try {
      return await find(id);
    } catch (error) {
      if (locks.areShared && isTransient(error) && !closing.signal.aborted) return 'away';
      throw error;
    }
  }

  /** Resolves with the record once the build has ended, wherever it runs, or when the service stops. */
  async function followToEnd(id: string): Promise<BuildRecord | undefined> {
    for (;;) {
      const job = findOwn(id);
      const record = job ? await jobs.waitFor(job, UNTIL_ITS_END) : await findUnlessAway(id);
      const isWaiting = record === 'away' || (record && !hasEnded(record));
      if (!isWaiting || !locks.areShared || closing.signal.aborted) return record === 'away' ? undefined : record;
      await wait(LOOK_MS, closing.signal).catch(() => {});
    }
  }

  const endings = new Map<string, Promise<BuildRecord | undefined>>();

  /** One look at a time for all who wait for the same build. */
  async function waitForEnd(id: string, signal: AbortSignal): Promise<BuildRecord | undefined> {
    const ending = endings.get(id) ?? followToEnd(id).finally(() => endings.delete(id));
    endings.set(id, ending);
    return unlessAborted(ending, signal);
  }

  return {
    find,
    submit: (spec, options) => scheduler.submit(spec, options),
    preview: (spec, options) => scheduler.preview(spec, options),
    wasSubmittedBy: (id, caller) => records.hasCaller(id, caller),
    list: page => records.list(page),
    counts: () => ({ queued: queue.waiting, running: queue.running }),
    wait: waitForEnd,
    async cancel(id) {
      const build = await find(id);
      if (!build || hasEnded(build)) return build;
      if (findOwn(id)) await cancelOwn(id);
      else await claims.cancel(id);
      return waitForEnd(id, UNTIL_ITS_END);
    },
    async retry(id, options) {
      const build = await find(id);
      return (
        build && (await scheduler.submit(build.spec, { ...options, packages: build.packages, isRetry: true })).build
      );
    },
    async openLog(id, options) {
      const job = findOwn(id);
      if (!locks.areShared) return job ? logs.follow(job.log, options) : logs.find(id, options.signal);
      await job?.log.flush();
      return logs.findGrowing(id, { ...options, isOver: () => isOver(id), closing: closing.signal });
    },
    async sweep() {
      await deps.records.sweep();
      await logs.sweep(isKnown);
      await deps.sweepContexts?.(records.hasContext);
    },
    async close() {
      closing.abort();
      for (const job of jobs.all()) job.stop.abort(new BuildStopped('closing', 'the service is stopping'));
      await queue.close();
      await looking;
      await Promise.all(jobs.all().map(job => job.log.end()));
      jobs.close();
    },
  };
}

/** How often each process looks at what others do. */
const LOOK_MS = 500;
/** In addition to those after which a build runs alone in its process: it may not have been the cause of these. */
const DEATHS_BY_CHANCE = 2;
const UNTIL_ITS_END = new AbortController().signal;

/** A queued build leaves at once, a running one is stopped. Resolves when it has stopped; undefined if it is not in progress. */
function createCancel({
  jobs,
  queue,
  endJob,
}: {
  readonly jobs: Jobs;
  readonly queue: Queue<Job>;
  readonly endJob: EndJob;
}): (id: string) => Promise<BuildRecord | undefined> {
  return async id => {
    const job = jobs.get(id);
    if (!job || hasEnded(job.record)) return job?.record;
    const stopped = new BuildStopped('cancelled', 'cancelled');
    job.stop.abort(stopped);
    if (queue.remove(job)) await endJob(job, { failure: { kind: 'cancelled', reason: stopped.message } });
    return jobs.waitFor(job, new AbortController().signal);
  };
}

// Resumes the builds that an earlier process left unfinished, so that none is stuck. A build that may have crashed the service runs alone,
// and fails as lost after repeated crashes. If the process was killed, for instance for lack of memory, no build is blamed.

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
async function restoreJobs(deps: RestoreDeps): Promise<void> {
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
  const job = createJob(record, { crashHistory, logs, runWork: deps.prepareRun?.(), isShared: false });
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
