// Admits builds: one for equal specs, up to the limits of the queue.
import type { Digest } from '../../oci/digest.ts';
import { type Lock, type Locks, RecordConflict, RecordStoreBusy } from '../../state/store.ts';
import { QueueFull, type SubmitOptions, type Submitted } from '../builds.ts';
import type { BuildRecord } from '../record.ts';
import type { Spec } from '../spec.ts';
import { type BuildRecords, NO_CRASHES } from './build-records.ts';
import { attemptId, imageOf, specKey, splitId } from './id.ts';
import { createJob, hasEnded, type Job, type Jobs, type PrepareRun } from './jobs.ts';
import type { LogStore } from './log-store.ts';
import type { Queue } from './queue.ts';

export interface SubmitPolicy {
  readonly concurrency: number;
  /** The maximum number of queued builds, besides running ones. */
  readonly maxQueued: number;
  readonly maxQueuedPerCaller: number;
  /** Whether anonymous callers get at most half of the queue, and leave one running build to known callers. */
  readonly limitsAnonymous?: boolean | undefined;
  /**
   * How long pulls of an image whose build failed (`isShared`) get the failure before they start a new build. Cancelled builds are retried at
   * once.
   */
  readonly failureMemoryMs?: number | undefined;
}

interface SubmitDeps {
  readonly records: BuildRecords;
  readonly jobs: Jobs;
  readonly queue: Queue<Job>;
  readonly logs: LogStore;
  readonly locks: Locks;
  /** Whether the image's tag still points to this digest, with all its content. */
  readonly imageExists: (image: string, digest: Digest) => Promise<boolean>;
  readonly policy: SubmitPolicy;
  readonly now: () => Date;
  readonly closing: AbortSignal;
  readonly prepareRun?: PrepareRun | undefined;
}

interface Submission extends SubmitOptions {
  /** Whether a remembered failure is ignored. */
  readonly isRetry?: boolean;
}

interface BuildScheduler {
  /** See Builds. */
  submit(spec: Spec, submission: Submission): Promise<Submitted>;
  preview(spec: Spec, submission: Submission): Promise<Submitted>;
}

const MAX_ATTEMPTS = 3;
/** How long a process that died while it submitted keeps others from submitting the same. */
const LEASE = { ttlMs: 8_000 } as const;

export function createBuildScheduler(deps: SubmitDeps): BuildScheduler {
  const nextTime = createAscendingClock(deps.now);

  async function submit(spec: Spec, submission: Submission, lock: Lock): Promise<Submitted> {
    const { answer, attempt } = await lookUp(spec, submission, deps);
    if (!answer) {
      const record = draft(spec, attempt, { ...submission, createdAt: nextTime() });
      return { build: await admit(record, lock, deps), isCached: false };
    }
    join(answer.build.id, submission, deps);
    await noteCaller(answer.build, submission, deps);
    return answer;
  }

  return {
    async submit(spec, submission) {
      const key = `build-spec/${specKey(spec)}`;
      for (let attempt = 1; ; attempt += 1) {
        try {
          return await deps.locks.withLock(key, lock => submit(spec, submission, lock), LEASE);
        } catch (error) {
          if (!(error instanceof RecordConflict)) throw error;
          // The lock was lost meanwhile: another process may have submitted the same.
          if (attempt === MAX_ATTEMPTS) throw new RecordStoreBusy(`${key} cannot be locked for long enough`);
        }
      }
    },
    async preview(spec, submission) {
      const { answer, attempt } = await lookUp(spec, submission, deps);
      return answer ?? { build: draft(spec, attempt, { ...submission, createdAt: deps.now() }), isCached: false };
    },
  };
}

/** The existing build of a spec, if there is one, and the number of the next attempt. */
async function lookUp(spec: Spec, { isRetry = false, isShared = false }: Submission, deps: SubmitDeps) {
  const key = specKey(spec);
  const known = deps.jobs.findLatest(key);
  // What others may have changed is read under the lock.
  const job = deps.locks.areShared ? undefined : known;
  const latest = job
    ? { attempt: splitId(job.record.id).attempt, record: job.record }
    : await deps.records.findLatest(key);
  const attempt = await findAttempt(key, (latest?.attempt ?? 0) + 1, deps);
  const build = latest?.record;
  if (build && (job || deps.locks.areShared) && !hasEnded(build))
    return { attempt, answer: { build, isCached: false } };
  if (build && (await stillExists(build, deps))) return { attempt, answer: { build, isCached: true } };
  if (build && isShared && !isRetry && isRemembered(build, deps))
    return { attempt, answer: { build, isCached: false } };
  return { attempt, answer: undefined };
}

/** The number of an existing log is not reused, even if its record is gone. */
async function findAttempt(key: string, first: number, { logs }: SubmitDeps): Promise<number> {
  for (let attempt = first; ; attempt += 1) if (!(await logs.has(attemptId(key, attempt)))) return attempt;
}

async function stillExists({ image, digest }: BuildRecord, { imageExists }: SubmitDeps): Promise<boolean> {
  return digest !== undefined && imageExists(image, digest);
}

function isRemembered({ failure, endedAt }: BuildRecord, { policy, now }: SubmitDeps): boolean {
  if (!failure || failure.kind === 'cancelled' || endedAt === undefined) return false;
  return Date.parse(endedAt) + (policy.failureMemoryMs ?? 0) > now().getTime();
}

type Draft = SubmitOptions & { readonly createdAt: Date };

function draft(
  spec: Spec,
  attempt: number,
  { caller, priority = 0, isShared, packages, createdAt }: Draft,
): BuildRecord {
  return {
    id: attemptId(specKey(spec), attempt),
    spec,
    status: 'queued',
    image: imageOf(spec),
    caller,
    ...(isShared && { isShared }),
    priority,
    createdAt: createdAt.toISOString(),
    starts: 0,
    backends: [],
    ...(packages && { packages }),
  };
}

/** Every caller who requested a build may see it. */
async function noteCaller(
  { id, caller: first }: BuildRecord,
  { caller, isShared }: Submission,
  { records }: SubmitDeps,
) {
  if (caller !== '' && caller !== first && !isShared) await records.addCaller(id, caller);
}

/** A build has the highest priority of those who submitted it. */
function join(id: string, { priority = 0 }: Submission, { jobs, queue }: SubmitDeps): void {
  const job = jobs.get(id);
  if (!job || job.record.priority >= priority) return;
  job.update({ priority });
  queue.raise(job, job.record);
}

async function admit(record: BuildRecord, { fence }: Lock, deps: SubmitDeps): Promise<BuildRecord> {
  const { records, jobs, queue, logs, locks } = deps;
  checkLimits(record.caller, deps);
  const job = createJob(record, {
    crashHistory: NO_CRASHES,
    logs,
    runWork: deps.prepareRun?.(),
    isShared: locks.areShared,
  });
  // It counts as queued from here on, while its record is being written.
  jobs.add(job);
  try {
    await records.save(record, NO_CRASHES, fence);
  } catch (error) {
    jobs.remove(job);
    job.ended.notify();
    throw error;
  }
  queue.add(job, job.record);
  return job.record;
}

function checkLimits(caller: string, { jobs, queue, policy, closing }: SubmitDeps): void {
  if (closing.aborted) throw new QueueFull('the service is stopping: try again in a moment');
  const free = policy.concurrency - queue.running;
  const waiting = jobs.countQueued() - free;
  if (waiting >= policy.maxQueued) {
    throw new QueueFull(`${Math.max(waiting, 0)} builds are queued already, the maximum (builds.queue.max): ${RETRY}`);
  }
  const own = jobs.countQueued(caller) - free;
  if (own >= policy.maxQueuedPerCaller) {
    const whose = caller === '' ? 'of anonymous callers' : 'of yours';
    throw new QueueFull(
      `${Math.max(own, 0)} builds ${whose} are queued already, the maximum (builds.queue.maxPerCaller): ${RETRY}`,
    );
  }
  if (caller === '' && policy.limitsAnonymous && own >= Math.ceil(policy.maxQueued / 2)) {
    throw new QueueFull(`${own} builds of anonymous callers are queued already, half of builds.queue.max: ${RETRY}`);
  }
}

const RETRY = 'try again when some have finished';

/** Strictly ascending, so that builds of one millisecond keep their order. */
function createAscendingClock(now: () => Date): () => Date {
  let last = 0;
  return () => {
    last = Math.max(last + 1, now().getTime());
    return new Date(last);
  };
}
