// The primary process of a service with several workers: it owns the data directory, starts the workers, replaces one that dies, and passes
// signals and messages on. It serves nothing itself: the workers accept connections from one socket.
import cluster, { type Worker as Child } from 'node:cluster';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Config } from '../config/schema.ts';
import { lockDirectory } from '../state/data-directory.ts';
import { createReserve } from '../state/reserve.ts';
import { removeStaged } from './stored-content.ts';
import type { FromWorker, LockAnswer, LockRequest, ToWorker } from './worker.ts';

/** In the environment of a worker: its number and how many there are, such as `2/4`. */
export const WORKER_VARIABLE = 'VENEER_WORKER';

interface Primary {
  /** Asks all workers to drain, and those that start once they serve. `ended` resolves afterwards. */
  drain(signal: NodeJS.Signals): void;
  /** Has the rules and certificates read again. */
  reload(): void;
  /** Resolves when all workers serve, or `drain` was called. Rejects with WorkerFault, after their end, where one ends before. */
  readonly started: Promise<void>;
  /** Resolves when all workers have ended after `drain`. */
  readonly ended: Promise<void>;
}

/** A worker did not start: its own message says why. */
export class WorkerFault extends Error {
  override readonly name = 'WorkerFault';
}

/** How long a worker serves until it counts as started well. */
const STEADY_MS = 60_000;
const FIRST_PAUSE_MS = 100;
const MAX_PAUSE_MS = 30_000;
/** How often replacements may fail one after the other while no worker serves. */
const MAX_FAILURES = 5;

/** Throws DirectoryLocked and StateFault. */
export function startWorkers({
  config,
  count,
  log,
  onListening,
  onLost,
}: {
  readonly config: Pick<Config, 'dataDir' | 'state'>;
  readonly count: number;
  readonly log: Logger;
  /** Called once, when all workers serve. */
  readonly onListening: (port: number) => void;
  /** Called when no worker serves and none can be started. */
  readonly onLost: (fault: WorkerFault) => void;
}): Primary {
  // In turns by Node, connections on their way to a worker that is killed would neither be served nor closed.
  cluster.schedulingPolicy = cluster.SCHED_NONE;
  const { dataDir } = config;
  const lock = lockDirectory(dataDir);
  const desk = createLockDesk();
  /** By number. */
  const running = new Map<number, Child>();
  const serving = new Set<Child>();
  const ended = Promise.withResolvers<void>();
  const draining = new AbortController();
  let drainedBy: NodeJS.Signals | undefined;
  let failures = 0;

  function send(child: Child | undefined, message: ToWorker): void {
    // It may have just died.
    if (child?.isConnected()) child.send(message, () => {});
  }

  function others(child: Child): readonly Child[] {
    return [...running.values()].filter(other => other !== child);
  }

  function take(child: Child, message: FromWorker): void {
    if (message.topic === 'lock') {
      const { kind, id, key } = message;
      desk.take(child.id, { kind, id, key }, answer => send(child, { topic: 'lock', ...answer }));
    } else if (message.topic === 'news') {
      for (const other of others(child)) send(other, message);
    } else if (message.topic === 'question') {
      const { id } = message;
      const asked = others(child).filter(other => other.isConnected() && serving.has(other));
      send(child, { topic: 'asked', id, count: asked.length });
      for (const other of asked) send(other, { topic: 'question', from: child.id, id });
    } else if (message.topic === 'answer') {
      const { id, metrics } = message;
      send(cluster.workers?.[message.to], { topic: 'answer', id, metrics });
    }
  }

  /** Resolves with its port, or undefined if it ends before it serves. */
  async function start(number: number): Promise<number | undefined> {
    const child = cluster.fork({ [WORKER_VARIABLE]: `${number}/${count}` });
    running.set(number, child);
    const startedAt = performance.now();
    const { promise: started, resolve } = Promise.withResolvers<number | undefined>();
    child.on('message', (message: FromWorker) => {
      // Its last messages may be read after its end, when it cannot hold a lock any more.
      if (child.isDead() && message.topic !== 'news') return;
      if (message.topic !== 'listening') return take(child, message);
      serving.add(child);
      failures = 0;
      // It was still starting when the others were asked to drain.
      if (drainedBy) send(child, { topic: 'drain', signal: drainedBy });
      resolve(message.port);
    });
    // A channel that breaks ends the worker.
    child.on('error', error => log.warn({ worker: number, err: error }, 'the channel to a worker failed'));
    child.once('exit', (code: number | null, signal: string | null) => {
      running.delete(number);
      desk.release(child.id);
      resolve(undefined);
      if (draining.signal.aborted) {
        if (running.size === 0) finish();
      } else if (serving.delete(child)) {
        log.error({ worker: number, code, signal }, 'a worker died: it is replaced');
        void replace(number, performance.now() - startedAt > STEADY_MS ? 0 : 1);
      }
    });
    return started;
  }

  /** Tries until it serves; after the first attempt the pauses grow. */
  async function replace(number: number, attempt: number): Promise<void> {
    const pauseMs = attempt === 0 ? 0 : Math.min(FIRST_PAUSE_MS * 2 ** attempt, MAX_PAUSE_MS);
    await sleep(pauseMs, undefined, { signal: draining.signal }).catch(() => {});
    if (draining.signal.aborted) return;
    const port = await start(number);
    if (port !== undefined) return log.info({ worker: number }, 'a new worker serves in place of the one that died');
    if (draining.signal.aborted) return;
    failures += 1;
    log.error({ worker: number, attempt }, 'a worker ended at its start: see what it has written');
    if (serving.size === 0 && failures >= MAX_FAILURES) onLost(new WorkerFault('no worker can be started'));
    else await replace(number, attempt + 1);
  }

  function finish(): void {
    lock.release();
    ended.resolve();
  }

  async function requireStarted(number: number): Promise<number> {
    const port = await start(number);
    if (port === undefined)
      throw new WorkerFault(`worker ${number} of ${count} did not start: see what it has written`);
    return port;
  }

  async function startAll(): Promise<void> {
    try {
      await removeStaged(config);
      const reserve = createReserve(dataDir);
      await reserve.close();
      if (draining.signal.aborted) return;
      // The first one creates what all of them need, such as keys, and migrates the records.
      const port = await requireStarted(1);
      if (draining.signal.aborted) return;
      await Promise.all(Array.from({ length: count - 1 }, (_, at) => requireStarted(at + 2)));
      if (!draining.signal.aborted) onListening(port);
    } catch (error) {
      if (draining.signal.aborted) return;
      draining.abort();
      await Promise.all([...running.values()].map(stopNow));
      lock.release();
      throw error;
    }
  }

  return {
    drain(signal) {
      if (draining.signal.aborted) return;
      draining.abort();
      drainedBy = signal;
      for (const child of serving) send(child, { topic: 'drain', signal });
      if (running.size === 0) finish();
    },
    reload() {
      for (const child of serving) send(child, { topic: 'reload' });
    },
    started: startAll(),
    ended: ended.promise,
  };
}

async function stopNow(child: Child): Promise<void> {
  if (child.isDead()) return;
  const ended = once(child, 'exit');
  child.process.kill('SIGKILL');
  await ended;
}

/**
 * Grants locks by key in the order in which they were requested. Nothing is written. What a worker holds becomes free when its process has ended,
 * however that ended, and never before: so no write needs a fence.
 */
interface LockDesk {
  /** Answers at once or later, and never to `unlock`, which also withdraws a request. What is held is in a list before that is answered. */
  take(worker: number, request: LockRequest, answer: (answer: LockAnswer) => void): void;
  /** To be called when the process of a worker has ended. */
  release(worker: number): void;
}

interface Claim {
  readonly worker: number;
  readonly id: number;
  readonly answer: (answer: LockAnswer) => void;
}

export function createLockDesk(): LockDesk {
  /** By key: who has the lock, and then those who wait for it. Never empty. */
  const lines = new Map<string, readonly Claim[]>();

  function leave(key: string, leaves: (claim: Claim) => boolean): void {
    const line = lines.get(key) ?? [];
    const left = line.filter(claim => !leaves(claim));
    const [first] = left;
    if (!first) {
      lines.delete(key);
      return;
    }
    lines.set(key, left);
    if (first !== line[0]) first.answer({ id: first.id, isGranted: true });
  }

  return {
    take(worker, { kind, id, key }, answer) {
      if (kind === 'unlock') return leave(key, claim => claim.worker === worker && claim.id === id);
      if (kind === 'list') {
        const keys = [...lines.keys()].filter(each => each.startsWith(key)).sort();
        return answer({ id, isGranted: true, keys });
      }
      const line = lines.get(key) ?? [];
      const isFree = line.length === 0;
      if (isFree || kind === 'lock') lines.set(key, [...line, { worker, id, answer }]);
      if (isFree || kind === 'tryLock') answer({ id, isGranted: isFree });
    },
    release(worker) {
      for (const key of [...lines.keys()]) leave(key, claim => claim.worker === worker);
    },
  };
}
