// A worker: one of several processes that serve on one port, from one data directory. Its channel to the primary process, which grants locks,
// passes news on to the other workers, and collects their answers to questions.
import type { CacheNews } from '../cache/eviction/shared-usage.ts';
import { createQueues, UNFENCED } from '../state/locks.ts';
import { type Locks, RecordStoreBusy } from '../state/store.ts';

export interface Worker {
  /** From 1. The first also does what one process must do for all, such as scrubbing. */
  readonly number: number;
  readonly count: number;
  readonly locks: Locks;
  readonly peers: Peers;
}

/** The other workers. */
export interface Peers {
  tell(news: CacheNews): void;
  onNews(listener: (news: CacheNews) => void): void;
  /** What the others have counted, of those that answer within a second. */
  askForMetrics(): Promise<readonly MetricsJson[]>;
  onMetricsAsked(read: () => Promise<MetricsJson>): void;
}

/** All metrics of a process, as its library exports them. */
type MetricsJson = readonly object[];

/**
 * From a worker to the primary process. `id` identifies one lock of the worker, from its request to its end, or one `list` of those that
 * workers have: then `key` is their prefix.
 */
export interface LockRequest {
  readonly kind: 'lock' | 'tryLock' | 'unlock' | 'list';
  readonly id: number;
  readonly key: string;
}

/** The answer to `lock`, `tryLock` and `list`; a `lock` is answered once it is granted. */
export interface LockAnswer {
  readonly id: number;
  readonly isGranted: boolean;
  /** Of `list`. */
  readonly keys?: readonly string[];
}

export type FromWorker =
  | ({ readonly topic: 'lock' } & LockRequest)
  | { readonly topic: 'news'; readonly news: CacheNews }
  | { readonly topic: 'question'; readonly id: number }
  | { readonly topic: 'answer'; readonly to: number; readonly id: number; readonly metrics: MetricsJson }
  | { readonly topic: 'listening'; readonly port: number };

export type ToWorker =
  | ({ readonly topic: 'lock' } & LockAnswer)
  | { readonly topic: 'news'; readonly news: CacheNews }
  | { readonly topic: 'question'; readonly from: number; readonly id: number }
  | { readonly topic: 'answer'; readonly id: number; readonly metrics: MetricsJson }
  /** How many answers will follow, if nobody dies. */
  | { readonly topic: 'asked'; readonly id: number; readonly count: number }
  | { readonly topic: 'drain'; readonly signal: NodeJS.Signals }
  | { readonly topic: 'reload' };

export interface Channel {
  send(message: FromWorker): void;
  onMessage(listener: (message: ToWorker) => void): void;
}

const ANSWER_MS = 1000;

interface Question {
  readonly answers: MetricsJson[];
  expected: number;
  end(): void;
}

export function createWorker(
  { number, count }: Pick<Worker, 'number' | 'count'>,
  { send, onMessage }: Channel,
): Worker {
  const { locks, settle } = createWorkerLocks(request => send({ topic: 'lock', ...request }));
  const listeners: ((news: CacheNews) => void)[] = [];
  const questions = new Map<number, Question>();
  let lastId = 0;
  let readMetrics = async (): Promise<MetricsJson> => [];

  function endIfComplete({ answers, expected, end }: Question): void {
    if (answers.length >= expected) end();
  }

  onMessage(message => {
    if (message.topic === 'lock') return settle(message);
    if (message.topic === 'news') {
      for (const listener of listeners) listener(message.news);
    } else if (message.topic === 'question') {
      const { from: to, id } = message;
      void readMetrics()
        .catch(() => [])
        .then(metrics => send({ topic: 'answer', to, id, metrics }));
    } else if (message.topic === 'asked' || message.topic === 'answer') {
      const question = questions.get(message.id);
      if (!question) return;
      if (message.topic === 'asked') question.expected = message.count;
      else question.answers.push(message.metrics);
      endIfComplete(question);
    }
  });

  return {
    ...{ number, count, locks },
    peers: {
      tell: news => send({ topic: 'news', news }),
      onNews: listener => void listeners.push(listener),
      async askForMetrics() {
        lastId += 1;
        const id = lastId;
        const { promise, resolve } = Promise.withResolvers<void>();
        const question: Question = { answers: [], expected: Number.POSITIVE_INFINITY, end: resolve };
        questions.set(id, question);
        const timer = setTimeout(resolve, ANSWER_MS);
        send({ topic: 'question', id });
        await promise;
        clearTimeout(timer);
        questions.delete(id);
        return question.answers;
      },
      onMetricsAsked(read) {
        readMetrics = read;
      },
    },
  };
}

interface WorkerLocks {
  readonly locks: Locks;
  /** To be called with each answer of the primary process. */
  settle(answer: LockAnswer): void;
}

/** The longest wait for another worker. */
const WAIT_MS = 30_000;

/** `send` passes a request to the primary process. */
export function createWorkerLocks(send: (request: LockRequest) => void, waitMs = WAIT_MS): WorkerLocks {
  const queues = createQueues();
  const pending = new Map<number, (answer: Omit<LockAnswer, 'id'>) => void>();
  let lastId = 0;

  async function ask(request: LockRequest): Promise<Omit<LockAnswer, 'id'>> {
    const { id } = request;
    const { promise, resolve } = Promise.withResolvers<Omit<LockAnswer, 'id'>>();
    const timer = setTimeout(resolve, waitMs, { isGranted: false });
    pending.set(id, resolve);
    send(request);
    const answer = await promise;
    clearTimeout(timer);
    pending.delete(id);
    return answer;
  }

  /** Undefined where it was not granted. */
  async function acquire(kind: 'lock' | 'tryLock', key: string): Promise<{ release(): void } | undefined> {
    lastId += 1;
    const id = lastId;
    const { isGranted } = await ask({ kind, id, key });
    const release = () => send({ kind: 'unlock', id, key });
    if (isGranted) return { release };
    // Withdrawn: a late answer may grant it.
    release();
    return undefined;
  }

  async function run<T>(work: () => Promise<T>, lock: { release(): void }): Promise<T> {
    try {
      return await work();
    } finally {
      lock.release();
    }
  }

  return {
    locks: {
      withLock: (key, work) =>
        queues.run(key, async () => {
          const lock = await acquire('lock', key);
          if (!lock) throw new RecordStoreBusy(`another worker holds the lock ${key}`);
          return run(() => work(UNFENCED), lock);
        }),
      async withFreeLock(key, work) {
        if (queues.has(key)) return undefined;
        return queues.run(key, async () => {
          const lock = await acquire('tryLock', key);
          return lock && run(() => work(UNFENCED), lock);
        });
      },
      isLocked: queues.has,
      async listHeld(prefix) {
        lastId += 1;
        const { keys } = await ask({ kind: 'list', id: lastId, key: prefix });
        if (!keys) throw new RecordStoreBusy('the primary process does not say which locks are held');
        return keys;
      },
      areShared: true,
    },
    settle: ({ id, ...answer }) => pending.get(id)?.(answer),
  };
}
