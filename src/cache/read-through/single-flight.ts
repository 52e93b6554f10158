// Equal work in flight is done once: who asks for the same key while it runs gets the same result.
import { untilAborted } from '../../upstream/waiting.ts';

/**
 * Runs `work` for a key unless it runs already. A waiter whose signal aborts cancels only his own wait, and gets its reason; when every waiter
 * has left, the signal of the work aborts. Whoever waits without a signal stays.
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
    // Whoever comes now begins anew: what is stopped would give him the reason of another.
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
