// One call of a maker. One that does not stop when it is told to is given up after a grace time, so that it holds up nobody for ever: its
// slot is free again, what it still says is not heard, and what it still does is its own affair, of which the log of the service tells.
import type { Logger } from 'pino';
import type { Wait } from './wait.ts';

interface AttemptOptions {
  readonly signal: AbortSignal;
  readonly graceMs: number;
  readonly wait: Wait;
  /** Of this build. */
  readonly log: Logger;
}

/** What `make` gives or throws; the signal's reason where it is given up. */
export async function attempt<T>(make: () => Promise<T>, options: AttemptOptions): Promise<T> {
  const { signal, log } = options;
  signal.throwIfAborted();
  const settled = new AbortController();
  const made = make();
  try {
    return await Promise.race([made, giveUp(settled.signal, options)]);
  } catch (error) {
    if (error instanceof GivenUp) {
      log.error({ afterMs: options.graceMs }, 'a build did not stop when it was told to, and is given up');
      watch(made, log);
      throw signal.reason;
    }
    throw error;
  } finally {
    settled.abort();
  }
}

class GivenUp extends Error {
  override readonly name = 'GivenUp';
}

/** Rejects a grace time after the signal; of no account once the work has settled. */
async function giveUp(settled: AbortSignal, { signal, graceMs, wait }: AttemptOptions): Promise<never> {
  await new Promise(resolve => signal.addEventListener('abort', resolve, { once: true, signal: settled }));
  await wait(graceMs, settled);
  throw new GivenUp();
}

function watch(made: Promise<unknown>, log: Logger): void {
  const report = () => log.warn('a build that was given up has stopped after all');
  made.then(report, report);
}
