// The end of a build: first the log is complete, then the record durable, then waiters are notified. A failing store delays no waiter: they
// are notified at once, and the result is stored as soon as possible.
import type { Logger } from 'pino';
import { RegistryError } from '../../oci/errors.ts';
import { RecordConflict } from '../../state/store.ts';
import { BuildFailure, type Executed } from '../execution.ts';
import type { BuildRecord, Failure } from '../record.ts';
import type { BuildRecords } from './build-records.ts';
import type { Job, Jobs } from './jobs.ts';
import type { Redact } from './log-file.ts';
import type { Wait } from './notifier.ts';

export type Outcome = Executed | { readonly failure: Failure };

/** Never rejects. */
export type EndJob = (job: Job, outcome: Outcome) => Promise<void>;

const RETRY_MS = { min: 1000, max: 60_000 } as const;

export function createEndJob({
  records,
  jobs,
  redact,
  onEnded,
  closing,
  now,
  wait,
  log,
}: {
  readonly records: BuildRecords;
  readonly jobs: Jobs;
  readonly redact: Redact;
  /** Called once for each build, when its result is durable. */
  readonly onEnded: (record: BuildRecord) => void;
  /** Aborts when the service stops: a result that is not stored by then is lost, and the build is resumed at the next start. */
  readonly closing: AbortSignal;
  readonly now: () => Date;
  readonly wait: Wait;
  readonly log: Logger;
}): EndJob {
  async function store(job: Job, record: BuildRecord): Promise<'stored' | 'overtaken' | 'failed'> {
    try {
      await job.log.complete();
      await records.save(record, job.crashHistory, job.fence);
    } catch (error) {
      if (error instanceof RecordConflict) {
        jobs.remove(job);
        return 'overtaken';
      }
      log.error({ err: error, build: record.id }, 'the result of a build cannot be stored');
      return 'failed';
    }
    jobs.remove(job);
    announce(record);
    return 'stored';
  }

  function announce(record: BuildRecord): void {
    try {
      onEnded(record);
    } catch (error) {
      log.error({ err: error, build: record.id }, 'the listener for finished builds failed');
    }
  }

  /** A reason that cannot be redacted is withheld; the build ends all the same. */
  function finish(job: Job, outcome: Outcome): Pick<BuildRecord, 'status' | 'digest' | 'platforms' | 'failure'> {
    if ('digest' in outcome) return { status: 'succeeded', ...outcome };
    try {
      return { status: 'failed', failure: sanitizeFailure(outcome.failure, redact) };
    } catch (error) {
      log.error({ err: error, build: job.record.id }, 'the reason of a failed build cannot be redacted');
      return {
        status: 'failed',
        failure: { kind: outcome.failure.kind, reason: 'the reason is withheld: it could not be checked for secrets' },
      };
    }
  }

  async function keepStoring(job: Job): Promise<void> {
    let waitMs: number = RETRY_MS.min;
    do {
      await wait(waitMs, closing);
      waitMs = Math.min(waitMs * 2, RETRY_MS.max);
    } while ((await store(job, job.record)) === 'failed');
  }

  return async (job, outcome) => {
    const record = { ...job.record, ...finish(job, outcome), endedAt: now().toISOString() };
    job.log.add({ kind: 'note', text: describe(record) });
    const stored = await store(job, record);
    if (stored !== 'overtaken') job.update(record);
    await job.log.end();
    if (stored === 'overtaken') log.warn({ build: record.id }, 'a build ended here after another process took it over');
    else log.info(summarize(record), 'build ended');
    job.ended.notify();
    if (stored !== 'failed') return;
    const storing = keepStoring(job).catch(() => {});
    // The lock on the build is held until then.
    if (job.isShared) await storing;
  };
}

function describe({ image, digest, failure }: BuildRecord): string {
  return failure ? describeFailure(failure) : `succeeded: ${image}@${digest}`;
}

function summarize({ id, image, status, startedAt, endedAt, failure }: BuildRecord) {
  const durationMs = startedAt && endedAt ? Date.parse(endedAt) - Date.parse(startedAt) : 0;
  return { build: id, image, status, durationMs, ...(failure && { failure }) };
}

/** The failure that an executor's error means. The text of an unforeseen error is for the service's log only. */
export function failureOf(error: unknown): Failure {
  if (error instanceof BuildFailure) return error.failure;
  if (error instanceof RegistryError) return { kind: 'infrastructure', reason: error.message };
  return { kind: 'infrastructure', reason: 'internal error: the log of Veneer has the cause' };
}

const MAX_LENGTH = 1000;

/** A failure as it may be stored: without secrets, each text one line of bounded length. */
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
