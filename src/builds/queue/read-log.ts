// Reading a log, slowly or fast: what is stored, then what comes. A reader costs one chunk of the file, however far it is behind.
import { type FileHandle, open } from 'node:fs/promises';
import type { LogEntry } from '../progress.ts';
import type { FollowedLog } from './live-log.ts';
import { readEntries } from './log-file.ts';

export interface ReadLogOptions {
  /** Whether to go on until the log has ended. */
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

/** Each entry once. Where the reader is slower than what comes and goes, a note stands for what it missed. */
export async function* readLiveLog(log: FollowedLog, options: ReadLogOptions): AsyncGenerator<LogEntry> {
  await log.settle();
  const spilled = yield* readFile(log, options);
  if (spilled !== undefined) yield* readTail(log, spilled, options);
}

/** Until the log has ended, or spills: then it gives the number of the first entry that is in the tail alone. */
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
