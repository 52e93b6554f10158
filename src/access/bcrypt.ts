// Comparing passwords takes tens of milliseconds of work each: a thread of its own does it, so that pulls go on meanwhile.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import pLimit from 'p-limit';
import { RegistryError } from '../oci/errors.ts';

export interface Bcrypt {
  /** One comparison at a time. Throws TOOMANYREQUESTS while too many are waiting. */
  compare(password: string, hash: string): Promise<boolean>;
  /** Ends the thread; a comparison that runs is not answered any more. */
  close(): Promise<void>;
}

const MAX_WAITING = 100;

/** The thread begins with the first comparison, and keeps no process alive. */
export function createBcrypt(): Bcrypt {
  const oneAtATime = pLimit(1);
  let worker: Worker | undefined;

  function startWorker(): Worker {
    const started = new Worker(new URL('./bcrypt-worker.ts', import.meta.url));
    started.unref();
    // A thread that broke is replaced for the next comparison.
    started.on('error', () => {
      worker = undefined;
    });
    return started;
  }

  return {
    async compare(password, hash) {
      if (oneAtATime.pendingCount >= MAX_WAITING) {
        throw new RegistryError('TOOMANYREQUESTS', 'too many passwords are being checked', { retryAfterSeconds: 1 });
      }
      return oneAtATime(async () => {
        worker ??= startWorker();
        worker.postMessage({ password, hash });
        const [isEqual] = await once(worker, 'message');
        return isEqual === true;
      });
    },
    async close() {
      await worker?.terminate();
      worker = undefined;
    },
  };
}
