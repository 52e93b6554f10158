// Single flight: concurrent calls for the same key share one run and its result; processes take turns.
import { setTimeout as sleep } from 'node:timers/promises';
import { isTransient, type Locks } from '../../state/store.ts';
import { untilAborted } from '../../upstream/waiting.ts';

/**
 * Runs `work` for a key unless it is already running. A waiter whose signal aborts leaves with its reason; when every waiter has left, the
 * signal of the work aborts. Waiters without a signal never leave.
 */
type SingleFlight<T> = (
  key: string,
  work: (signal: AbortSignal) => Promise<T>,
  signal?: AbortSignal | undefined,
) => Promise<T>;

interface Running<T> {
  readonly result: Promise<T>;
  readonly stop: AbortController;
  waiting: number;
}

export function createSingleFlight<T>(): SingleFlight<T> {
  const running = new Map<string, Running<T>>();

  function start(key: string, work: (signal: AbortSignal) => Promise<T>): Running<T> {
    const stop = new AbortController();
    const started = { result: work(stop.signal).finally(() => forget(key, started)), stop, waiting: 0 };
    running.set(key, started);
    return started;
  }

  function forget(key: string, ended: Running<T>): void {
    if (running.get(key) === ended) running.delete(key);
  }

  function leave(key: string, left: Running<T>, reason: unknown): void {
    left.waiting -= 1;
    if (left.waiting > 0) return;
    // A new caller starts over: the aborted run would give it someone else's reason.
    forget(key, left);
    left.stop.abort(reason);
    left.result.catch(() => {});
  }

  return (key, work, signal) => {
    if (signal?.aborted) return Promise.reject(signal.reason);
    const joined = running.get(key) ?? start(key, work);
    joined.waiting += 1;
    if (!signal) return joined.result;
    signal.addEventListener('abort', onAbort, { once: true });
    return untilAborted(joined.result, signal).finally(() => signal.removeEventListener('abort', onAbort));

    function onAbort(): void {
      if (signal) leave(key, joined, signal.reason);
    }
  };
}

/** Turns of processes at fetching the same content: whoever waited finds what the one before has stored. */
export interface Turns {
  /**
   * Waits for a turn; the function that it returns ends it. After 20 s, and where the records of the turns are away, it goes on
   * without one. Throws the signal's reason.
   */
  take(key: string, signal?: AbortSignal): Promise<() => void>;
}

/** Under the 30 s after which containerd 2.4 and some proxies give up. A turn whose process has died ends before, after 15 s. */
const WAIT_MS = 20_000;

/** While `isAway`, nobody waits for records that do not answer. */
export function createTurns(
  locks: Pick<Locks, 'withLock'>,
  { waitMs = WAIT_MS, isAway = () => false }: { readonly waitMs?: number; readonly isAway?: () => boolean } = {},
): Turns {
  return {
    async take(key, signal) {
      if (isAway()) return () => {};
      const { promise: over, resolve: end } = Promise.withResolvers<void>();
      const begun = Promise.withResolvers<void>();
      locks
        .withLock(`fetch/${key}`, () => {
          begun.resolve();
          return over;
        })
        .catch(error => (isTransient(error) ? begun.resolve() : begun.reject(error)));
      const left = new AbortController();
      const signals = signal ? [signal, left.signal] : [left.signal];
      try {
        await Promise.race([begun.promise, sleep(waitMs, undefined, { signal: AbortSignal.any(signals) })]);
        return end;
      } catch (error) {
        // A turn that comes later ends at once.
        end();
        throw signal?.aborted ? signal.reason : error;
      } finally {
        left.abort();
      }
    },
  };
}
