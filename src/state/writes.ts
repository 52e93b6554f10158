// Writes queued for the writer thread. Those that arrive while it works form the next transaction: each is answered when it is on disk, and
// failures are isolated.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { toError } from './sqlite-error.ts';
import { type Change, RecordStoreFailed } from './store.ts';
import type { Answer, Job, Message, WriterOptions } from './writer.ts';

interface Writes {
  /** The count from its answer. Throws RecordStoreFull or RecordStoreBusy: then nothing was changed. */
  run(job: Job): Promise<number>;
  /** Waits for writes in progress. Later ones fail. */
  close(): Promise<void>;
}

const MAX_JOBS = 500;
const MAX_BYTES = 16 * 1024 * 1024;
/** Far more than that, with its keys, takes. */
const HEAP_MIB = 128;

interface Waiting {
  readonly job: Job;
  readonly bytes: number;
  readonly resolve: (count: number) => void;
  readonly reject: (error: Error) => void;
}

/** The thread starts with the first write. If it dies, its current writes fail; the next write starts another. */
export function createWrites({
  findFault,
  isSound,
  ...options
}: Omit<WriterOptions, 'fault'> & {
  /** Called whenever the thread starts. */
  readonly findFault: () => WriterOptions['fault'];
  /** Called when it ends: whether the remaining files may be called sound. */
  readonly isSound: () => boolean;
}): Writes {
  let waiting: Waiting[] = [];
  let current: readonly Waiting[] = [];
  let worker: Worker | undefined;
  let isClosed = false;
  let onIdle: (() => void) | undefined;

  function begin(): Worker {
    const data: WriterOptions = { ...options, fault: findFault() };
    const started = new Worker(new URL('./writer.ts', import.meta.url), {
      workerData: data,
      // If it takes more memory it dies alone, and only its current writes fail.
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB },
    });
    started.on('message', (answers: readonly Answer[]) => settle(answers));
    started.on('error', error => lose(started, error instanceof Error ? error : new Error(String(error))));
    started.on('exit', () => lose(started, new Error('it has ended')));
    return started;
  }

  function goOn(): void {
    if (current.length > 0) return;
    current = takeSome();
    if (current.length === 0) {
      worker?.unref();
      onIdle?.();
      return;
    }
    const jobs = current.map(({ job }) => job);
    try {
      worker ??= begin();
      worker.ref();
      send(worker, { jobs }, jobs.flatMap(buffersOf));
    } catch (error) {
      fail(new RecordStoreFailed('the thread that writes records cannot be started', { cause: error }));
    }
  }

  function takeSome(): readonly Waiting[] {
    let bytes = 0;
    const end = waiting.findIndex((each, at) => {
      bytes += each.bytes;
      return at >= MAX_JOBS || (at > 0 && bytes > MAX_BYTES);
    });
    const taken = end === -1 ? waiting : waiting.slice(0, end);
    waiting = waiting.slice(taken.length);
    return taken;
  }

  function settle(answers: readonly Answer[]): void {
    const settled = current;
    current = [];
    for (const [at, { resolve, reject }] of settled.entries()) {
      const answer = answers[at];
      if (answer && 'count' in answer) resolve(answer.count);
      else reject(toError(answer?.failure ?? { message: 'no answer', errcode: undefined }));
    }
    goOn();
  }

  function lose(lost: Worker, cause: Error): void {
    if (worker !== lost) return;
    worker = undefined;
    // It may have been written, or not.
    fail(new RecordStoreFailed(`the thread that writes records has died: ${cause.message}`, { cause }));
  }

  function fail(error: Error): void {
    const failed = current;
    current = [];
    for (const { reject } of failed) reject(error);
    goOn();
  }

  return {
    run(job) {
      if (isClosed) return Promise.reject(new Error('the record store is closed'));
      return new Promise((resolve, reject) => {
        const own = withOwnBytes(job);
        const bytes = buffersOf(own).reduce((sum, { byteLength }) => sum + byteLength, 0);
        waiting.push({ job: own, bytes, resolve, reject });
        goOn();
      });
    },
    async close() {
      isClosed = true;
      if (current.length > 0 || waiting.length > 0) {
        await new Promise<void>(resolve => {
          onIdle = resolve;
        });
      }
      const ending = worker;
      worker = undefined;
      if (!ending) return;
      ending.ref();
      const ended = once(ending, 'exit');
      send(ending, { close: { isSound: isSound() } });
      await ended;
    },
  };
}

function send(worker: Worker, message: Message, transfer: ArrayBuffer[] = []): void {
  worker.postMessage(message, transfer);
}

/** Copied: the caller may change it, and it may be a small part of a large buffer. */
function withOwnBytes(job: Job): Job {
  if (job.kind !== 'write') return job;
  const own = (change: Change): Change =>
    change.kind === 'put' ? { ...change, value: new Uint8Array(change.value) } : change;
  return { ...job, changes: job.changes.map(own) };
}

function buffersOf(job: Job): ArrayBuffer[] {
  if (job.kind !== 'write') return [];
  return job.changes.flatMap(change => {
    const buffer = change.kind === 'put' ? change.value.buffer : undefined;
    return buffer instanceof ArrayBuffer ? [buffer] : [];
  });
}
