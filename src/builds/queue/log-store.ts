// The logs of all builds, each named by the id of its build, and how they are read. A reader costs one chunk of a file, however far behind
// it is.
import { setTimeout } from 'node:timers/promises';
import { type Expectation, isTransient } from '../../state/store.ts';
import type { LogEntry } from '../progress.ts';
import { buildIdSchema } from '../record.ts';
import { createLiveLog, type FollowedLog, type LiveLog, type LiveLogDeps } from './live-log.ts';
import type { LogReader } from './log-file.ts';

export interface LogStore {
  /** For a build that starts, or is resumed after a restart. `getFence` is that of LogFiles. */
  create(id: string, getFence?: () => readonly Expectation[]): LiveLog;
  /** The log of a build that no process works on; undefined if there is none. The caller reads it to its end or returns it. */
  find(id: string, signal: AbortSignal): Promise<AsyncIterable<LogEntry> | undefined>;
  /** The log of a build in progress. */
  follow(log: LiveLog, options: ReadLogOptions): AsyncIterable<LogEntry>;
  /**
   * The log of a build that any process may work on, as far as it is in the files; with `follow` until the build `isOver`, however long the
   * files are away meanwhile. Undefined if there is none, and will be none.
   */
  findGrowing(id: string, options: GrowingLogOptions): Promise<AsyncIterable<LogEntry> | undefined>;
  /** As of LogFiles. */
  has(id: string): Promise<boolean>;
  sweep(isKnown: (id: string) => Promise<boolean>): Promise<void>;
}

export function createLogStore(deps: LiveLogDeps): LogStore {
  const { files } = deps;
  return {
    create: (id, getFence) => createLiveLog(id, deps, getFence),
    follow: readLiveLog,
    has: files.has,
    async find(id, signal) {
      if (!buildIdSchema.safeParse(id).success || !(await files.has(id))) return undefined;
      return readStoredLog(() => files.openReader(id), signal);
    },
    async findGrowing(id, options) {
      if (!buildIdSchema.safeParse(id).success) return undefined;
      if (!(await files.has(id)) && (await options.isOver())) return undefined;
      return readGrowingLog(() => files.openReader(id), options);
    },
    sweep: files.sweep,
  };
}

interface ReadLogOptions {
  /** Whether to continue until the log has ended. */
  readonly follow: boolean;
  readonly signal: AbortSignal;
}

interface GrowingLogOptions extends ReadLogOptions {
  readonly isOver: () => Promise<boolean>;
  /** Aborts when the service stops: then nothing is waited for that is away. */
  readonly closing: AbortSignal;
}

const LOOK_MS = 250;

async function* readGrowingLog(
  openReader: () => Promise<LogReader | undefined>,
  { follow, signal, isOver, closing }: GrowingLogOptions,
): AsyncGenerator<LogEntry> {
  let reader: LogReader | undefined;
  try {
    for (;;) {
      try {
        reader ??= await openReader();
        // Asked before: what is written until the end is read after it.
        const isLast = !follow || (await isOver());
        for await (const entry of reader?.read() ?? []) {
          signal.throwIfAborted();
          yield entry;
        }
        if (isLast) return;
      } catch (error) {
        if (!follow || !isTransient(error) || closing.aborted) throw error;
      }
      await setTimeout(LOOK_MS, undefined, { signal });
    }
  } finally {
    await reader?.close();
  }
}

/** The log of a build that has ended. */
export async function* readStoredLog(
  openReader: () => Promise<LogReader | undefined>,
  signal: AbortSignal,
): AsyncGenerator<LogEntry> {
  const reader = await openReader();
  try {
    for await (const entry of reader?.read() ?? []) {
      signal.throwIfAborted();
      yield entry;
    }
  } finally {
    await reader?.close();
  }
}

/** Yields each entry once, with a note in place of entries that a slow reader missed. */
export async function* readLiveLog(log: FollowedLog, options: ReadLogOptions): AsyncGenerator<LogEntry> {
  await log.flush();
  const spilled = yield* readFile(log, options);
  if (spilled !== undefined) yield* readTail(log, spilled, options);
}

/** Reads until the log has ended, or spills: then it returns the number of the first entry that is only in the tail. */
async function* readFile(
  log: FollowedLog,
  { follow, signal }: ReadLogOptions,
): AsyncGenerator<LogEntry, number | undefined> {
  let reader: LogReader | undefined;
  let offset = 0;
  try {
    for (;;) {
      signal.throwIfAborted();
      const { size } = log;
      if (offset < size) {
        reader ??= await log.openReader();
        for await (const entry of reader?.read(size) ?? []) {
          signal.throwIfAborted();
          yield entry;
        }
        offset = size;
      } else if (log.isSpilling) return log.written;
      else if (log.isEnded || !follow) return undefined;
      else await log.changes.wait(signal);
    }
  } finally {
    await reader?.close();
  }
}

async function* readTail(
  log: FollowedLog,
  start: number,
  { follow, signal }: ReadLogOptions,
): AsyncGenerator<LogEntry> {
  let number = start;
  for (;;) {
    signal.throwIfAborted();
    const { first, next } = log.tail;
    if (number < first) {
      yield log.createGap(first - number);
      number = first;
    } else if (number < next) {
      const entry = log.tail.find(number);
      if (entry) yield entry;
      number += 1;
    } else if (log.isEnded || !follow) return;
    else await log.changes.wait(signal);
  }
}
