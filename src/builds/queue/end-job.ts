// The end of a build: the log is whole, then the record is durable, then those who wait are told. A store that fails holds up nobody: they
// are told at once, and the end is stored as soon as that is possible.
import type { Logger } from 'pino';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { BuildFailure } from '../execution.ts';
import type { BuildRecord, Failure } from '../record.ts';
import type { BuildRecords } from './build-records.ts';
import type { Job, Jobs } from './jobs.ts';
import type { Redact } from './log-file.ts';
import type { Wait } from './notifier.ts';

export type Outcome = { readonly digest: Digest } | { readonly failure: Failure };

/** Never rejects. */
export type EndJob = (job: Job, outcome: Outcome) => Promise<void>;

interface EndJobDeps {
  readonly records: BuildRecords;
  readonly jobs: Jobs;
  readonly redact: Redact;
  /** Once for each build, when its end is durable. */
  readonly onEnded: (record: BuildRecord) => void;
  /** Aborts when the service stops: what is not stored by then is begun anew. */
  readonly closing: AbortSignal;
  readonly now: () => Date;
  readonly wait: Wait;
  readonly log: Logger;
}

const RETRY_MS = { min: 1000, max: 60_000 } as const;

export function createEndJob({ records, jobs, redact, onEnded, closing, now, wait, log }: EndJobDeps): EndJob {
  async function store(job: Job, record: BuildRecord): Promise<boolean> {
    try {
      await records.save(record, job.crashHistory);
    } catch (error) {
      log.error({ err: error, build: record.id }, 'the end of a build cannot be stored');
      return false;
    }
    jobs.remove(job);
    announce(record);
    return true;
  }

  function announce(record: BuildRecord): void {
    try {
      onEnded(record);
    } catch (error) {
      log.error({ err: error, build: record.id }, 'the end of a build cannot be told');
    }
  }

  /** A fault in the telling of it is its own failure: what the service does goes on. */
  function finish(job: Job, outcome: Outcome): Pick<BuildRecord, 'status' | 'digest' | 'failure'> {
    if ('digest' in outcome) return { status: 'succeeded', digest: outcome.digest };
    try {
      return { status: 'failed', failure: sanitizeFailure(outcome.failure, redact) };
    } catch (error) {
      log.error({ err: error, build: job.record.id }, 'why a build failed cannot be told');
      return { status: 'failed', failure: { kind: outcome.failure.kind, reason: 'its reason cannot be told' } };
    }
  }

  async function keepStoring(job: Job): Promise<void> {
    let waitMs: number = RETRY_MS.min;
    do {
      await wait(waitMs, closing);
      waitMs = Math.min(waitMs * 2, RETRY_MS.max);
    } while (!(await store(job, job.record)));
  }

  return async (job, outcome) => {
    const record = { ...job.record, ...finish(job, outcome), endedAt: now().toISOString() };
    job.log.add({ kind: 'note', text: describe(record) });
    await job.log.complete();
    const isStored = await store(job, record);
    job.update(record);
    await job.log.end();
    log.info(summarize(record), 'build ended');
    job.ended.notify();
    if (!isStored) keepStoring(job).catch(() => {});
  };
}

function describe({ image, digest, failure }: BuildRecord): string {
  return failure ? describeFailure(failure) : `succeeded: ${image}@${digest}`;
}

function summarize({ id, image, status, startedAt, endedAt, failure }: BuildRecord) {
  const durationMs = startedAt && endedAt ? Date.parse(endedAt) - Date.parse(startedAt) : 0;
  return { build: id, image, status, durationMs, ...(failure && { failure }) };
}

/** What a maker threw that was not stopped. A fault that nobody has foreseen is for the service's log alone. */
export function failureOf(error: unknown): Failure {
  if (error instanceof BuildFailure) return error.failure;
  if (error instanceof RegistryError) return { kind: 'infrastructure', reason: error.message };
  return { kind: 'infrastructure', reason: 'an unexpected fault, of which the log of the service says more' };
}

const MAX_LENGTH = 1000;

/** A failure as it may be kept: without secrets, its texts one line each and bounded. */
function sanitizeFailure(failure: Failure, redact: Redact): Failure {
  const line = (text: string) => {
    const whole = redact(text)
      .replaceAll(/[\s\p{Cc}]+/gu, ' ')
      .trim();
    return whole.length > MAX_LENGTH ? `${whole.slice(0, MAX_LENGTH).toWellFormed()}…` : whole;
  };
  const { step, reason } = failure;
  return { ...failure, reason: line(reason), ...(step !== undefined && { step: line(step) }) };
}

/** The last line of a failed build's log. */
function describeFailure({ kind, reason, platform, step }: Failure): string {
  const where = [platform, step].filter(part => part !== undefined).join(', ');
  return `failed (${kind}): ${where === '' ? reason : `${where}: ${reason}`}`;
}
