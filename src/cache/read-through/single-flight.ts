// Single flight: concurrent calls for the same key share one run and its result.
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
