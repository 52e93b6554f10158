// Pulls that wait for a build: until it has ended, or for as long as they may wait.
import type { Builds } from '../../builds/builds.ts';
import type { BuildRecord } from '../../builds/record.ts';
import { RegistryError } from '../../oci/errors.ts';

/** The address of a build's log, such as `/v1alpha1/builds/<id>/logs`. */
export type LogAddress = (id: string) => string;

/** When a client should retry: the build continues meanwhile, and the next pull waits as well. */
const RETRY_AFTER_SECONDS = 15;

/**
 * The record of the build once it has succeeded. Throws UNAVAILABLE (503) when the build takes longer than the pull may wait, or the
 * service stops, MANIFEST_UNKNOWN (404) with the reason and the log's address when it failed, or the signal's reason.
 */
export async function awaitBuild(
  builds: Pick<Builds, 'wait'>,
  id: string,
  options: {
    /** How long the pull may wait. */
    readonly holdMs: number;
    /** The client's: aborting it ends the wait, but not the build. */
    readonly signal?: AbortSignal | undefined;
    readonly logAddress: LogAddress;
  },
): Promise<BuildRecord> {
  const { logAddress } = options;
  const late = () =>
    notYet(`${id} is still running, and its log is ${logAddress(id)}`, { build: id, log: logAddress(id) });
  const record = await waitUntil(options, until => builds.wait(id, until), late);
  if (!record) throw new RegistryError('MANIFEST_UNKNOWN', `the build ${id} is not known any more: pull again`);
  if (record.status === 'succeeded') return record;
  // The service is stopping: the build continues after its restart.
  if (record.status !== 'failed') throw late();
  throw failedBuild(record, logAddress);
}

/** The error of a pull that waited as long as it may, or cannot wait. */
export function notYet(state: string, detail?: unknown): RegistryError {
  return new RegistryError('UNAVAILABLE', `the image is still being built: ${state}; pull again`, {
    detail,
    retryAfterSeconds: RETRY_AFTER_SECONDS,
  });
}

/** The error of a pull whose image could not be built. */
export function failedBuild({ id, failure }: BuildRecord, logAddress: LogAddress): RegistryError {
  const { kind, reason, platform, step } = failure ?? { kind: 'lost', reason: 'it has no result' };
  const where = [platform, step].filter(part => part !== undefined).join(' ');
  const message = `the build ${id} failed: ${where && `[${where}] `}${reason}; its log is ${logAddress(id)}`;
  const detail = { build: id, log: logAddress(id), kind, reason, platform, step };
  return new RegistryError('MANIFEST_UNKNOWN', message, { detail });
}

// Waiting with a deadline and a signal.

/** The result of `work`. Throws `late()` when that takes longer than `holdMs`, or the signal's reason when that aborts. */
export async function waitUntil<T>(
  { holdMs, signal }: { readonly holdMs: number; readonly signal?: AbortSignal | undefined },
  work: (signal: AbortSignal) => Promise<T>,
  late: () => Error,
): Promise<T> {
  const deadline = new AbortController();
  const timer = setTimeout(() => deadline.abort(), Math.max(0, holdMs));
  try {
    return await work(signal ? AbortSignal.any([signal, deadline.signal]) : deadline.signal);
  } catch (error) {
    throw deadline.signal.aborted && error === deadline.signal.reason ? late() : error;
  } finally {
    clearTimeout(timer);
  }
}
