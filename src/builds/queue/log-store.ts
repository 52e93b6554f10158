// The logs of all builds: one file each, named by the build's id, and how it is read. A reader costs one chunk of the file, however far
// behind it is.
import { type FileHandle, mkdir, open, readdir, stat, unlink } from 'node:fs/promises';
import type { LogEntry } from '../progress.ts';
import { buildIdSchema } from '../record.ts';
import { createLiveLog, type FollowedLog, type LiveLog, type LiveLogDeps, logPath } from './live-log.ts';
import { readEntries } from './log-file.ts';

export interface LogStore {
  /** For a build that starts, or is resumed after a restart. */
  create(id: string): LiveLog;
  /** The log of a build that has ended; undefined if there is none. The caller reads it to its end or returns it. */
  find(id: string, signal: AbortSignal): Promise<AsyncIterable<LogEntry> | undefined>;
  /** The log of a build in progress. */
  follow(log: LiveLog, options: ReadLogOptions): AsyncIterable<LogEntry>;
  /** Whether there is a log of this id, with or without a record. */
  has(id: string): Promise<boolean>;
  /** Removes the logs of builds without a record, an hour after their last line. */
  sweep(isKnown: (id: string) => Promise<boolean>): Promise<void>;
}

/** A log may precede its record. */
const GRACE_MS = 3_600_000;

/** Creates the directory, accessible for this user only, if it is absent. */
export async function createLogStore(deps: LiveLogDeps): Promise<LogStore> {
  const { directory, now } = deps;
  await mkdir(directory, { recursive: true, mode: 0o700 });

  async function findEnd(id: string): Promise<number | undefined> {
    return (await stat(logPath(directory, id), { throwIfNoEntry: false }))?.mtimeMs;
  }

  async function has(id: string): Promise<boolean> {
    return (await findEnd(id)) !== undefined;
  }

  return {
    create: id => createLiveLog(id, deps),
    follow: readLiveLog,
    has,
    async find(id, signal) {
      if (!buildIdSchema.safeParse(id).success) return undefined;
      return (await has(id)) ? readStoredLog(logPath(directory, id), signal) : undefined;
    },
    async sweep(isKnown) {
      for (const name of await readdir(directory)) {
        const id = name.slice(0, -'.log'.length);
        if (!name.endsWith('.log') || !buildIdSchema.safeParse(id).success) continue;
        const endedAt = await findEnd(id);
        if (endedAt === undefined || endedAt + GRACE_MS > now().getTime() || (await isKnown(id))) continue;
        await unlink(logPath(directory, id)).catch(ignoreAbsence);
      }
    },
  };
}

function ignoreAbsence(error: unknown): void {
  if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
}

interface ReadLogOptions {
  /** Whether to continue until the log has ended. */
  readonly follow: boolean;
  readonly signal: AbortSignal;
}

/** The log of a build that has ended. */
export async function* readStoredLog(path: string, signal: AbortSignal): AsyncGenerator<LogEntry> {
  const file = await open(path);
  try {
    for await (const entry of readEntries(file, 0, (await file.stat()).size)) {
      signal.throwIfAborted();
      yield entry;
    }
  } finally {
    await file.close();
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
  let file: FileHandle | undefined;
  let offset = 0;
  try {
    for (;;) {
      signal.throwIfAborted();
      const { size } = log;
      if (offset < size) {
        file ??= await open(log.path);
        for await (const entry of readEntries(file, offset, size)) {
          signal.throwIfAborted();
          yield entry;
        }
        offset = size;
      } else if (log.isSpilling) return log.written;
      else if (log.isEnded || !follow) return undefined;
      else await log.changes.wait(signal);
    }
  } finally {
    await file?.close();
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
