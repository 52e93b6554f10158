// Lets a status request wait briefly for the end: clients that poll every few seconds learn of the end of a short build at once.
import type { Context } from 'hono';
import { accountOf } from '../../access/rate-limiter.ts';
import type { Builds } from '../../builds/builds.ts';
import type { BuildRecord } from '../../builds/record.ts';
import { requesterOf } from '../middleware/authentication.ts';
import { hasEnded } from './build-response.ts';

interface StatusWaitOptions {
  /** How long a request may wait; clients time out after 20 seconds or later. 0: not at all. */
  readonly maxMs: number;
  /** How many requests may wait at a time, a quarter of them of one caller or network; further ones are answered at once. */
  readonly maxWaiting: number;
}

/** Nobody can take all waits from the others. */
const SHARES = 4;

/**
 * Resolves when `work` does, when the time is up, or when the client leaves; `work` ends with its signal. Never rejects on timeout.
 */
export type StatusWait = <T>(c: Context, work: (until: AbortSignal) => Promise<T>) => Promise<T | undefined>;

export function createStatusWait({ maxMs, maxWaiting }: StatusWaitOptions): StatusWait {
  const maxOfOne = Math.max(1, Math.floor(maxWaiting / SHARES));
  const accounts = new Map<string, number>();
  let waiting = 0;

  function count(account: string, change: 1 | -1): void {
    waiting += change;
    const left = (accounts.get(account) ?? 0) + change;
    if (left === 0) accounts.delete(account);
    else accounts.set(account, left);
  }

  return async (c, work) => {
    const account = accountOf(requesterOf(c)).key;
    if (maxMs === 0 || waiting >= maxWaiting || (accounts.get(account) ?? 0) >= maxOfOne) return undefined;
    const deadline = new AbortController();
    const timer = setTimeout(() => deadline.abort(), maxMs);
    const until = AbortSignal.any([c.req.raw.signal, deadline.signal]);
    count(account, 1);
    try {
      return await work(until);
    } catch (error) {
      if (until.aborted && error === until.reason) return undefined;
      throw error;
    } finally {
      count(account, -1);
      clearTimeout(timer);
    }
  };
}

/** The build once it has ended, or once the request has waited long enough. */
export async function awaitEnd(
  build: BuildRecord,
  { builds, wait, c }: { builds: Pick<Builds, 'wait' | 'find'>; wait: StatusWait; c: Context },
): Promise<BuildRecord> {
  if (hasEnded(build)) return build;
  await wait(c, until => builds.wait(build.id, until));
  return (await builds.find(build.id)) ?? build;
}
