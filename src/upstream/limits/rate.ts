// Limits the rate of requests: they are delayed in order, and one that would wait too long is rejected at once.
import { RegistryError } from '../../oci/errors.ts';
import { type Clock, untilAborted } from '../waiting.ts';

export interface Rate {
  readonly count: number;
  readonly perMs: number;
}

/** Our own TOOMANYREQUESTS, with its Retry-After: the upstream was not contacted. */
export class RateExceeded extends RegistryError {}

/** Waits until the next request may be sent. Throws RateExceeded where that is too far away, or the signal's reason. */
type WaitForRate = (signal?: AbortSignal) => Promise<void>;

/** Clients give up if they receive nothing for longer. */
const MAX_WAIT_MS = 30_000;

/** At most `count` requests in any period of `perMs`. A caller that stops waiting does not use up a request. */
export function createRateLimiter({
  name,
  rate: { count, perMs },
  clock,
}: {
  /** The upstream, for messages. */
  readonly name: string;
  readonly rate: Rate;
  readonly clock: Clock;
}): WaitForRate {
  /** The times of the last `count` requests, oldest first. */
  let taken: number[] = [];
  const queue = new Set<() => void>();
  let queueEmptied = new AbortController();

  /** When a request behind this many waiting ones may be sent. */
  function timeOf(ahead: number): number {
    const now = clock.now().getTime();
    const rounds = Math.floor(ahead / count);
    const before = taken[(ahead % count) + taken.length - count];
    return (before === undefined ? now : Math.max(now, before + perMs)) + rounds * perMs;
  }

  function take(at: number): void {
    taken.push(at);
    if (taken.length > count) taken.shift();
  }

  /** Runs until no caller is waiting. */
  async function runQueue(): Promise<void> {
    queueEmptied = new AbortController();
    const { signal } = queueEmptied;
    while (queue.size > 0) {
      const at = timeOf(0);
      const waitMs = at - clock.now().getTime();
      if (waitMs > 0) await clock.wait(waitMs, signal);
      const [next] = queue;
      if (signal.aborted || !next) return;
      queue.delete(next);
      take(at);
      next();
    }
  }

  function leave(next: () => void): void {
    queue.delete(next);
    if (queue.size === 0) queueEmptied.abort();
  }

  return async signal => {
    signal?.throwIfAborted();
    const now = clock.now().getTime();
    // The clock was set back: its earlier times are void.
    if ((taken.at(-1) ?? now) > now + MAX_WAIT_MS) taken = [];
    const waitMs = timeOf(queue.size) - now;
    if (waitMs > MAX_WAIT_MS) {
      const reason = `Veneer sends it at most ${count} requests in ${Math.ceil(perMs / 1000)} seconds`;
      const retryAfterSeconds = Math.ceil(waitMs / 1000);
      throw new RateExceeded('TOOMANYREQUESTS', `${name}: ${reason}`, { retryAfterSeconds });
    }
    if (waitMs === 0 && queue.size === 0) return take(now);
    const acquired = Promise.withResolvers<void>();
    queue.add(acquired.resolve);
    if (queue.size === 1) runQueue().catch(acquired.reject);
    await (signal ? untilAborted(acquired.promise, signal) : acquired.promise).finally(() => leave(acquired.resolve));
  };
}
