// A circuit breaker: calls to an endpoint that keeps failing are rejected for a while, then a single call probes it.
import { RegistryError } from '../../oci/errors.ts';
import { Outage } from '../failure.ts';
import { type Clock, remainingMs } from '../waiting.ts';
import { RateExceeded } from './rate.ts';

export interface BreakerChange {
  readonly upstream: string;
  readonly state: 'open' | 'closed';
  /** The last failure. */
  readonly reason: string;
}

/**
 * Only an Outage counts as a failure; any other RegistryError is an answer, unless it is our own. Throws UNAVAILABLE, with its Retry-After,
 * while open.
 */
export type Breaker = <T>(work: () => Promise<T>) => Promise<T>;

export function createBreaker({
  name,
  failures,
  pauseMs,
  clock,
  onChange,
}: {
  /** The upstream, for messages. */
  readonly name: string;
  /** The number of consecutive failures that opens it. */
  readonly failures: number;
  /** How long it stays open. */
  readonly pauseMs: number;
  readonly clock: Clock;
  readonly onChange?: ((change: BreakerChange) => void) | undefined;
}): Breaker {
  let inRow = 0;
  let reason = '';
  let openedAt: Date | undefined;
  let isProbing = false;

  function succeeded(): void {
    inRow = 0;
    if (openedAt === undefined) return;
    openedAt = undefined;
    onChange?.({ upstream: name, state: 'closed', reason });
  }

  function failed(error: Outage, isProbe: boolean): void {
    inRow += 1;
    reason = error.message;
    if (openedAt !== undefined) {
      // Calls started before it opened add no information.
      if (isProbe) openedAt = clock.now();
    } else if (inRow >= failures) {
      openedAt = clock.now();
      onChange?.({ upstream: name, state: 'open', reason });
    }
  }

  async function watch<T>(work: () => Promise<T>, isProbe: boolean): Promise<T> {
    try {
      const result = await work();
      succeeded();
      return result;
    } catch (error) {
      if (error instanceof Outage) failed(error, isProbe);
      else if (error instanceof RegistryError && !(error instanceof RateExceeded)) succeeded();
      throw error;
    }
  }

  async function probe<T>(work: () => Promise<T>): Promise<T> {
    isProbing = true;
    try {
      return await watch(work, true);
    } finally {
      isProbing = false;
    }
  }

  return async work => {
    if (openedAt === undefined) return watch(work, false);
    const leftMs = remainingMs(clock, openedAt, pauseMs);
    if (!isProbing && leftMs === 0) return probe(work);
    const retryAfterSeconds = Math.max(1, Math.ceil(leftMs / 1000));
    const message = `${name}: not contacted for ${retryAfterSeconds} s after ${inRow} failures in a row, the last: ${reason}`;
    throw new RegistryError('UNAVAILABLE', message, { retryAfterSeconds });
  };
}
