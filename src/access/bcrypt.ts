// Compares passwords with bcrypt in a thread, since each comparison takes tens of milliseconds and pulls must continue. Response times
// reveal nothing: neither which users exist, nor the cost of their hashes.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { RegistryError } from '../oci/errors.ts';
import { costOf } from './user-file.ts';

export interface Bcrypt {
  /** One comparison at a time. Throws TOOMANYREQUESTS, after a delay, when too many are waiting. */
  compare(
    password: string,
    hash: string,
    options?: {
      /** The bcrypt cost to spend in total; the hash's own cost is padded up to it. Default: the hash's. */
      readonly cost?: number;
      /** The source of the password. Sources are served round-robin, and the one with the most waiting is refused first. */
      readonly from?: string;
      /**
       * The user, if there is one. A right password then bypasses the queue of guesses; a wrong one is answered when it would be for an
       * unknown user.
       */
      readonly user?: string | undefined;
    },
  ): Promise<boolean>;
  /** Ends the thread; a running comparison is not answered. */
  close(): Promise<void>;
}

const MAX_WAITING = 100;
/** Many times what the thread needs: unbounded growth would take down the whole process. */
const HEAP_MIB = 64;
/** Longer than a comparison without waiting: by then it is known whether a user's password is right. */
const REFUSAL_DELAY_MS = 1000;

/** The thread starts with the first comparison, and does not keep the process alive. */
export function createBcrypt({ refusalDelayMs = REFUSAL_DELAY_MS } = {}): Bcrypt {
  const userQueue = createFairQueue();
  const sharedQueue = createFairQueue();
  let worker: Worker | undefined;
  let isBusy = false;

  function startWorker(): Worker {
    const started = new Worker(new URL('./bcrypt-worker.ts', import.meta.url), {
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB },
    });
    started.unref();
    // A failed thread is replaced for the next comparison.
    started.on('error', () => {
      worker = undefined;
    });
    return started;
  }

  async function run(password: string, hash: string, cost: number): Promise<boolean> {
    worker ??= startWorker();
    worker.postMessage({ password, hash, cost });
    const [isEqual] = await once(worker, 'message');
    return isEqual === true;
  }

  function startNext(): void {
    while (!isBusy) {
      const entry = userQueue.next() ?? sharedQueue.next();
      if (!entry) return;
      if (entry.work) occupy(entry, entry.work);
      else entry.settle(Promise.resolve(false));
    }
  }

  function occupy({ settle }: Entry, work: () => Promise<boolean>): void {
    isBusy = true;
    const result = work();
    settle(result);
    void result
      .catch(() => {})
      .finally(() => {
        isBusy = false;
        startNext();
      });
  }

  /** A job without work only waits until it is scheduled, and then returns false. */
  function enqueue(queue: FairQueue, lane: string, work?: () => Promise<boolean>) {
    const { promise, resolve, reject } = Promise.withResolvers<boolean>();
    const error = new RegistryError('TOOMANYREQUESTS', 'too many passwords are being checked', {
      retryAfterSeconds: 1,
    });
    const entry = { lane, work, settle: resolve, refuse: () => void setTimeout(reject, refusalDelayMs, error) };
    // It may be refused before anybody awaits it.
    promise.catch(() => {});
    queue.add(entry);
    return { result: promise, leave: () => queue.remove(entry) };
  }

  return {
    async compare(password, hash, { cost = costOf(hash), from = '', user } = {}) {
      const work = () => run(password, hash, cost);
      if (user === undefined) {
        const entry = enqueue(sharedQueue, from, work);
        startNext();
        return entry.result;
      }
      const own = enqueue(userQueue, user, work);
      const entry = enqueue(sharedQueue, from);
      startNext();
      const isWrong = await own.result
        .then(isRight => !isRight)
        .catch(error => {
          entry.leave();
          throw error;
        });
      if (isWrong) return entry.result;
      entry.leave();
      return true;
    },
    async close() {
      await worker?.terminate();
      worker = undefined;
    },
  };
}

interface Entry {
  readonly lane: string;
  readonly work: (() => Promise<boolean>) | undefined;
  readonly settle: (result: Promise<boolean>) => void;
  readonly refuse: () => void;
}

/** Fair queue: waiting jobs by source, served round-robin. */
interface FairQueue {
  /** If there are too many, refuses the last job of the longest queue, which may be this one. */
  add(entry: Entry): void;
  next(): Entry | undefined;
  remove(entry: Entry): void;
}

function createFairQueue(): FairQueue {
  /** None is empty. In the order of service. */
  const lanes = new Map<string, readonly Entry[]>();
  let size = 0;

  function put(lane: string, entries: readonly Entry[]): void {
    if (entries.length > 0) lanes.set(lane, entries);
    else lanes.delete(lane);
  }

  function remove(entry: Entry): void {
    const entries = lanes.get(entry.lane) ?? [];
    if (!entries.includes(entry)) return;
    size--;
    put(
      entry.lane,
      entries.filter(each => each !== entry),
    );
  }

  function refuseOne(): void {
    const longest = [...lanes.values()].reduce((a, b) => (b.length > a.length ? b : a));
    const last = longest.at(-1);
    if (!last) return;
    remove(last);
    last.refuse();
  }

  return {
    remove,
    add(entry) {
      put(entry.lane, [...(lanes.get(entry.lane) ?? []), entry]);
      size++;
      if (size > MAX_WAITING) refuseOne();
    },
    next() {
      const [first] = lanes;
      if (!first) return undefined;
      const [lane, [entry, ...rest]] = first;
      lanes.delete(lane);
      put(lane, rest);
      size--;
      return entry;
    },
  };
}
