// The life of a build after it leaves the queue: started, retried if a builder failed, stopped at its timeout, ended. An executor that does
// not stop is abandoned after a grace period, so that another build can start.
import type { Logger } from 'pino';
import { isTransient, RecordConflict } from '../../state/store.ts';
import { BuildFailure, BuildStopped, type Execute, type ExecuteOptions } from '../execution.ts';
import type { Report } from '../progress.ts';
import type { BuildRecord } from '../record.ts';
import type { ContainerFileSpec, CopySpec, Spec } from '../spec.ts';
import type { BuildRecords } from './build-records.ts';
import { type EndJob, failureOf, type Outcome } from './end-job.ts';
import type { Job } from './jobs.ts';
import { unlessAborted, type Wait } from './notifier.ts';

export interface Executors {
  readonly containerfile: Execute<ContainerFileSpec>;
  readonly copy: Execute<CopySpec>;
}

export type RunAs = <T>(caller: string, work: () => Promise<T>) => Promise<T>;

export interface RunPolicy {
  /** The timeout of a spec without one, over all attempts. */
  readonly timeoutMs: number;
  /** How often a build is retried whose builder or registry failed. */
  readonly infrastructureRetries: number;
  /** How long an executor may take to stop: it ends its processes gently first. */
  readonly graceMs?: number | undefined;
}

interface RunJobDeps {
  readonly executors: Executors;
  /** Runs work with the caller's own resources, such as registry credentials. Default: without any. */
  readonly runAs?: RunAs | undefined;
  readonly records: BuildRecords;
  readonly endJob: EndJob;
  readonly policy: RunPolicy;
  readonly now: () => Date;
  readonly wait: Wait;
  readonly log: Logger;
}

/** Why the process that was overtaken stops. */
export const TAKEN_OVER = 'another process took the build over';

const GRACE_MS = 30_000;
const LOOK_MS = 500;
const BACKOFF_MS = { min: 2000, max: 60_000 } as const;

/** Resolves when the build has ended, or was interrupted since the service stops; never rejects. */
export function createRunJob(deps: RunJobDeps): (job: Job) => Promise<void> {
  const { log } = deps;
  return job =>
    job
      .runWork(job, () => runToEnd(job, deps))
      .catch(error => {
        log.error({ err: error, build: job.record.id }, 'a build could not be finished');
      });
}

async function runToEnd(job: Job, deps: RunJobDeps): Promise<void> {
  const { endJob, wait, log } = deps;
  const over = new AbortController();
  const timeoutMs = job.record.spec.timeoutMs ?? deps.policy.timeoutMs;
  wait(timeoutMs, over.signal).then(
    () => job.stop.abort(new BuildStopped('timeout', `not finished after ${timeoutMs / 1000} s`)),
    () => {},
  );
  const outcome = await executeWithRetries(job, over.signal, deps).catch(error => explain(error, job, log));
  over.abort();
  if (outcome) await endJob(job, outcome);
  else await interrupt(job, deps);
}

/** Undefined if the build is to be resumed when the service starts again. */
function explain(error: unknown, job: Job, log: Logger): Outcome | undefined {
  const reason: unknown = job.stop.signal.reason;
  if (reason instanceof BuildStopped) {
    return reason.kind === 'closing' ? undefined : { failure: { kind: reason.kind, reason: reason.message } };
  }
  if (!(error instanceof BuildFailure)) log.error({ err: error, build: job.record.id }, 'a build failed unexpectedly');
  return { failure: failureOf(error) };
}

async function interrupt(job: Job, { records, log }: RunJobDeps): Promise<void> {
  const { isShared } = job;
  const next = isShared ? 'another process continues this build' : 'and resumes this build when it starts again';
  job.log.add({ kind: 'note', text: `interrupted: the service stops, ${next}` });
  await job.log.end();
  // Where others share it, it is free for them.
  const record: BuildRecord = isShared ? { ...job.record, status: 'queued' } : job.record;
  await records.save(record, { ...job.crashHistory, isRunning: false }, job.fence).catch(error => {
    if (error instanceof RecordConflict) return log.warn({ build: record.id }, 'another process took a build over');
    log.error({ err: error, build: record.id }, 'that a build was interrupted cannot be stored');
  });
}

async function executeWithRetries(job: Job, over: AbortSignal, deps: RunJobDeps): Promise<Outcome> {
  const { policy, wait, log } = deps;
  const { signal } = job.stop;
  for (let retry = 0; ; ) {
    signal.throwIfAborted();
    await start(job, deps);
    const options = { signal, wait, graceMs: policy.graceMs ?? GRACE_MS, log: log.child({ build: job.record.id }) };
    try {
      const run = () => execute(deps.executors, job.record.spec, createExecuteOptions(job, over));
      return await attempt(() => (deps.runAs ? deps.runAs(ownerOf(job), run) : run()), options);
    } catch (error) {
      if (signal.aborted || !isRetryable(error)) throw error;
      if (await waitForRecords(job, deps)) {
        job.log.add({ kind: 'note', text: `${failureOf(error).reason}: retry, as the records were away` });
        continue;
      }
      if (retry >= policy.infrastructureRetries) throw error;
      const waitMs = Math.min(BACKOFF_MS.min * 2 ** retry, BACKOFF_MS.max);
      const retrying = `retry ${retry + 1} of ${policy.infrastructureRetries} in ${waitMs / 1000} s`;
      job.log.add({ kind: 'note', text: `${failureOf(error).reason}: ${retrying}` });
      await wait(waitMs, signal);
      retry += 1;
    }
  }
}

/**
 * Whether they were away: builders pull from this service and push to it, and both need records. Resolves when they answer, and rejects with
 * the reason of the job's stop.
 */
async function waitForRecords({ record, stop }: Job, { records, wait }: RunJobDeps): Promise<boolean> {
  for (let wereAway = false; ; wereAway = true) {
    try {
      await records.isCancelRequested(record.id);
      return wereAway;
    } catch (error) {
      if (!isTransient(error)) return wereAway;
    }
    await wait(LOOK_MS, stop.signal);
  }
}

/** The caller whose resources the build uses: none for a shared build, whichever caller's pull started it. */
function ownerOf({ record: { caller, isShared = false } }: Job): string {
  return isShared ? '' : caller;
}

function isRetryable(error: unknown): boolean {
  return error instanceof BuildFailure && error.failure.kind === 'infrastructure';
}

async function start(job: Job, { records, now, log }: RunJobDeps): Promise<void> {
  const { starts, startedAt } = job.record;
  const isFirst = job.record.status === 'queued';
  job.update({ status: 'running', starts: starts + 1, startedAt: isFirst ? now().toISOString() : startedAt });
  const { id, image, spec } = job.record;
  log.info({ build: id, image, platforms: spec.platforms, starts: starts + 1 }, 'build started');
  await records.save(job.record, { ...job.crashHistory, isRunning: true }, job.fence).catch(error => {
    if (error instanceof RecordConflict) return job.stop.abort(new BuildStopped('closing', TAKEN_OVER));
    log.error({ err: error, build: id }, 'the start of a build cannot be stored');
  });
}

async function execute(executors: Executors, spec: Spec, options: ExecuteOptions) {
  switch (spec.kind) {
    case 'containerfile':
      return executors.containerfile(spec, options);
    case 'copy':
      return executors.copy(spec, options);
  }
}

/** Reports of an executor after the end are ignored. */
function createExecuteOptions(job: Job, over: AbortSignal): ExecuteOptions {
  const until =
    (report: Report): Report =>
    event => {
      if (!over.aborted) report(event);
    };
  return {
    id: job.record.id,
    image: job.record.image,
    signal: job.stop.signal,
    report: until(job.log.add),
    resume: async note => until(await unlessAborted(job.log.resume(note), job.stop.signal)),
    async confirm() {
      await job.confirm().catch(error => stopOvertaken(job, error));
    },
    onBackend(name) {
      const { backends } = job.record;
      if (!over.aborted && !backends.includes(name)) job.update({ backends: [...backends, name] });
    },
  };
}

/** A store that is away for a moment may have taken no lease: then the end of the build says so. */
function stopOvertaken({ stop }: Job, error: unknown): void {
  if (error instanceof RecordConflict) stop.abort(new BuildStopped('closing', TAKEN_OVER));
  else if (!isTransient(error)) throw error;
  stop.signal.throwIfAborted();
}

interface AttemptOptions {
  readonly signal: AbortSignal;
  readonly graceMs: number;
  readonly wait: Wait;
  /** A logger for this build. */
  readonly log: Logger;
}

/** The result or error of `execute`; the signal's reason if it is abandoned. */
async function attempt<T>(execute: () => Promise<T>, options: AttemptOptions): Promise<T> {
  const { signal, log } = options;
  signal.throwIfAborted();
  const settled = new AbortController();
  const result = execute();
  try {
    return await Promise.race([result, abandon(settled.signal, options)]);
  } catch (error) {
    if (error instanceof Abandoned) {
      log.error({ afterMs: options.graceMs }, 'a build did not stop in time, and is abandoned');
      watch(result, log);
      throw signal.reason;
    }
    throw error;
  } finally {
    settled.abort();
  }
}

class Abandoned extends Error {
  override readonly name = 'Abandoned';
}

/** Rejects a grace period after the signal; ignored once the work has settled. */
async function abandon(settled: AbortSignal, { signal, graceMs, wait }: AttemptOptions): Promise<never> {
  await new Promise(resolve => signal.addEventListener('abort', resolve, { once: true, signal: settled }));
  await wait(graceMs, settled);
  throw new Abandoned();
}

function watch(result: Promise<unknown>, log: Logger): void {
  const report = () => log.warn('an abandoned build has stopped after all');
  result.then(report, report);
}
