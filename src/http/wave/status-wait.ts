// Lets a status request wait briefly for the end: clients that poll every few seconds learn of the end of a short build at once.
import type { Builds } from '../../builds/builds.ts';
import type { BuildRecord } from '../../builds/record.ts';
import { hasEnded } from './build-response.ts';

interface StatusWaitOptions {
  /** How long a request may wait; clients time out after 20 seconds or later. 0: not at all. */
  readonly maxMs: number;
  /** How many requests may wait at a time; further ones are answered at once. */
  readonly maxWaiting: number;
}

/**
 * Resolves when `work` does, when the time is up, or when the client leaves; `work` ends with its signal. Never rejects on timeout.
 */
export type StatusWait = <T>(client: AbortSignal, work: (until: AbortSignal) => Promise<T>) => Promise<T | undefined>;

export function createStatusWait({ maxMs, maxWaiting }: StatusWaitOptions): StatusWait {
  let waiting = 0;
  return async (client, work) => {
    if (maxMs === 0 || waiting >= maxWaiting) return undefined;
    const deadline = new AbortController();
    const timer = setTimeout(() => deadline.abort(), maxMs);
    const until = AbortSignal.any([client, deadline.signal]);
    waiting += 1;
    try {
      return await work(until);
    } catch (error) {
      if (until.aborted && error === until.reason) return undefined;
      throw error;
    } finally {
      waiting -= 1;
      clearTimeout(timer);
    }
  };
}

/** The build once it has ended, or once the request has waited long enough. */
export async function awaitEnd(
  build: BuildRecord,
  { builds, wait, client }: { builds: Pick<Builds, 'wait' | 'find'>; wait: StatusWait; client: AbortSignal },
): Promise<BuildRecord> {
  if (hasEnded(build)) return build;
  await wait(client, until => builds.wait(build.id, until));
  return (await builds.find(build.id)) ?? build;
}
