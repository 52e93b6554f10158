// The life of a build from when its turn has come: begun, tried again where a builder failed, stopped where it takes too long, ended. An
// executor that does not stop when it is told to is abandoned after a grace time, so that it holds up nobody for ever.
import type { Logger } from 'pino';
import { BuildFailure, BuildStopped, type Execute, type ExecuteOptions } from '../execution.ts';
import type { Report } from '../progress.ts';
import type { ContainerFileSpec, CopySpec, Spec } from '../spec.ts';
import type { BuildRecords } from './build-records.ts';
import { type EndJob, failureOf, type Outcome } from './end-job.ts';
import type { Job } from './jobs.ts';
import type { Wait } from './notifier.ts';

export interface Executors {
  readonly containerfile: Execute<ContainerFileSpec>;
  readonly copy: Execute<CopySpec>;
}

export interface RunPolicy {
  /** Of a build whose spec names none: over all its tries. */
  readonly timeoutMs: number;
  /** How often a build is tried again whose builder or registry failed. */
  readonly infrastructureRetries: number;
  /** How long a maker may take to stop; a maker ends its processes gently first. */
  readonly graceMs?: number | undefined;
}

interface RunJobDeps {
  readonly executors: Executors;
  readonly records: BuildRecords;
  readonly endJob: EndJob;
  readonly policy: RunPolicy;
  readonly now: () => Date;
  readonly wait: Wait;
  readonly log: Logger;
}

const GRACE_MS = 30_000;
const BACKOFF_MS = { min: 2000, max: 60_000 } as const;

/** Resolves when the build has ended, or is stopped because the service stops; never rejects. */
export function createRunJob(deps: RunJobDeps): (job: Job) => Promise<void> {
  const { log } = deps;
  return job =>
    runToEnd(job, deps).catch(error => {
      log.error({ err: error, build: job.record.id }, 'a build could not be ended');
    });
}

async function runToEnd(job: Job, deps: RunJobDeps): Promise<void> {
  const { endJob, wait, log } = deps;
  const over = new AbortController();
  const timeoutMs = job.record.spec.timeoutMs ?? deps.policy.timeoutMs;
  wait(timeoutMs, over.signal).then(
    () => job.stop.abort(new BuildStopped('timeout', `it was not done after ${timeoutMs / 1000} s`)),
    () => {},
  );
  const outcome = await makeImage(job, over.signal, deps).catch(error => explain(error, job, log));
  over.abort();
  if (outcome) await endJob(job, outcome);
  else await leaveJob(job, deps);
}

/** Undefined where the build is to go on when the service starts again. */
function explain(error: unknown, job: Job, log: Logger): Outcome | undefined {
  const reason: unknown = job.stop.signal.reason;
  if (reason instanceof BuildStopped) {
    return reason.kind === 'closing' ? undefined : { failure: { kind: reason.kind, reason: reason.message } };
  }
  if (!(error instanceof BuildFailure)) log.error({ err: error, build: job.record.id }, 'a build failed unexpectedly');
  return { failure: failureOf(error) };
}

async function leaveJob(job: Job, { records, log }: RunJobDeps): Promise<void> {
  job.log.add({ kind: 'note', text: 'stopped with the service: it goes on when that starts again' });
  await job.log.end();
  await records.save(job.record, { ...job.crashHistory, isRunning: false }).catch(error => {
    log.error({ err: error, build: job.record.id }, 'that a build was stopped cannot be stored');
  });
}

async function makeImage(job: Job, over: AbortSignal, deps: RunJobDeps): Promise<Outcome> {
  const { policy, wait, log } = deps;
  const { signal } = job.stop;
  for (let retry = 0; ; retry += 1) {
    signal.throwIfAborted();
    await begin(job, deps);
    const options = { signal, wait, graceMs: policy.graceMs ?? GRACE_MS, log: log.child({ build: job.record.id }) };
    try {
      return await attempt(() => make(deps.executors, job.record.spec, createMakeOptions(job, over)), options);
    } catch (error) {
      if (signal.aborted || retry >= policy.infrastructureRetries || !isPassing(error)) throw error;
      const waitMs = Math.min(BACKOFF_MS.min * 2 ** retry, BACKOFF_MS.max);
      const left = `tried again in ${waitMs / 1000} s, ${retry + 1} of ${policy.infrastructureRetries}`;
      job.log.add({ kind: 'note', text: `${failureOf(error).reason}: ${left}` });
      await wait(waitMs, signal);
    }
  }
}

function isPassing(error: unknown): boolean {
  return error instanceof BuildFailure && error.failure.kind === 'infrastructure';
}

async function begin(job: Job, { records, now, log }: RunJobDeps): Promise<void> {
  const { starts, startedAt } = job.record;
  const isFirst = job.record.status === 'queued';
  job.update({ status: 'running', starts: starts + 1, startedAt: isFirst ? now().toISOString() : startedAt });
  const { id, image, spec } = job.record;
  log.info({ build: id, image, platforms: spec.platforms, starts: starts + 1 }, 'build begins');
  await records.save(job.record, { ...job.crashHistory, isRunning: true }).catch(error => {
    log.error({ err: error, build: id }, 'the beginning of a build cannot be stored');
  });
}

async function make(executors: Executors, spec: Spec, options: ExecuteOptions) {
  switch (spec.kind) {
    case 'containerfile':
      return executors.containerfile(spec, options);
    case 'copy':
      return executors.copy(spec, options);
  }
}

/** What a maker says once it is all over is not heard. */
function createMakeOptions(job: Job, over: AbortSignal): ExecuteOptions {
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
    resume: async note => until(await job.log.resume(note)),
    onBackend(name) {
      const { backends } = job.record;
      if (!over.aborted && !backends.includes(name)) job.update({ backends: [...backends, name] });
    },
  };
}

interface AttemptOptions {
  readonly signal: AbortSignal;
  readonly graceMs: number;
  readonly wait: Wait;
  /** Of this build. */
  readonly log: Logger;
}

/** What `make` gives or throws; the signal's reason where it is given up. */
async function attempt<T>(make: () => Promise<T>, options: AttemptOptions): Promise<T> {
  const { signal, log } = options;
  signal.throwIfAborted();
  const settled = new AbortController();
  const made = make();
  try {
    return await Promise.race([made, giveUp(settled.signal, options)]);
  } catch (error) {
    if (error instanceof GivenUp) {
      log.error({ afterMs: options.graceMs }, 'a build did not stop when it was told to, and is given up');
      watch(made, log);
      throw signal.reason;
    }
    throw error;
  } finally {
    settled.abort();
  }
}

class GivenUp extends Error {
  override readonly name = 'GivenUp';
}

/** Rejects a grace time after the signal; of no account once the work has settled. */
async function giveUp(settled: AbortSignal, { signal, graceMs, wait }: AttemptOptions): Promise<never> {
  await new Promise(resolve => signal.addEventListener('abort', resolve, { once: true, signal: settled }));
  await wait(graceMs, settled);
  throw new GivenUp();
}

function watch(made: Promise<unknown>, log: Logger): void {
  const report = () => log.warn('a build that was given up has stopped after all');
  made.then(report, report);
}
