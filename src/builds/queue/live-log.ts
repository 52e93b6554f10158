// The log of a build that is under way. Its file gets the beginning and, when the build is done, the end; what does not fit between is
// left out with a note. A disk that fails or is slow costs entries, never the build.
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { LogEntry, ProgressEvent, Report } from '../progress.ts';
import { createEntry, encodeEntry, findReported, type LogFile, openLogFile, type Redact } from './log-file.ts';
import { createLogTail, type LogTail } from './log-tail.ts';
import { createNotifier, type Notifier } from './notifier.ts';

/** What a reader looks at; `changes` rings when any of it is another. */
export interface FollowedLog {
  readonly path: string;
  /** Of the file, which ends with a whole line there. */
  readonly size: number;
  /** The number after the last entry that is in the file. */
  readonly written: number;
  /** Whether the entries from `written` on are in the tail alone, and get into the file only when the build is done. */
  readonly isSpilling: boolean;
  readonly isEnded: boolean;
  readonly tail: Pick<LogTail, 'first' | 'next' | 'find'>;
  readonly changes: Notifier;
  /** Resolves when what was told is in the file, as far as there is room for it. Never rejects. */
  flush(): Promise<void>;
  /** What stands for entries that are lost. */
  createGap(count: number): LogEntry;
}

export interface LiveLog extends FollowedLog {
  /** Never throws. */
  add(event: ProgressEvent): void;
  /** Adds what the file does not have behind the note of this text. Never rejects. */
  resume(note: string): Promise<Report>;
  /** Writes the end of a log that did not fit; nothing may be added afterwards. Never rejects. */
  complete(): Promise<void>;
  /** Lets the readers and the file go. Never rejects. */
  end(): Promise<void>;
}

export interface LiveLogDeps {
  readonly directory: string;
  readonly maxBytes: number;
  readonly redact: Redact;
  readonly now: () => Date;
  readonly log: Logger;
}

const MAX_TAIL_BYTES = 1024 * 1024;
/** What may wait for the disk while the file has room: more may come at once than the end of a log has. */
const MAX_WAITING_BYTES = 8 * 1024 * 1024;
/** For the note of what is left out. */
const NOTE_BYTES = 256;

export function createLiveLog(id: string, { directory, maxBytes, redact, now, log }: LiveLogDeps): LiveLog {
  const path = logPath(directory, id);
  const tailBytes = Math.min(maxBytes / 4, MAX_TAIL_BYTES);
  const headBytes = maxBytes - tailBytes - NOTE_BYTES;
  const tail = createLogTail(MAX_WAITING_BYTES);
  const changes = createNotifier();
  let file: LogFile | undefined;
  let written = 0;
  let isFull = false;
  let isEnded = false;
  let writing: Promise<void> | undefined;

  /** What cannot be searched for secrets is told to nobody. */
  function entryOf(event: ProgressEvent): LogEntry {
    try {
      return createEntry(event, { redact, at: now() });
    } catch (error) {
      log.error({ err: error, build: id }, 'a line of the log of a build cannot be told');
      return {
        kind: 'note',
        text: 'a line is left out: it could not be searched for secrets',
        at: now().toISOString(),
      };
    }
  }

  const createGap = (count: number) => entryOf({ kind: 'note', text: `${count} lines are left out here` });

  /** `lines` are the entries from the number `first` on. */
  async function append(lines: readonly Uint8Array[], first: number): Promise<void> {
    file ??= await openLogFile(path);
    const gap = first > written ? [encodeEntry(createGap(first - written))] : [];
    await file.append([...gap, ...lines]);
    written = first + lines.length;
  }

  async function writeHead(): Promise<void> {
    while (!isFull && tail.next > tail.first) {
      // What comes in one turn of the event loop is written together.
      await setImmediate();
      file ??= await openLogFile(path);
      const { first } = tail;
      const lines = tail.take(headBytes - file.size);
      if (lines.length === 0) spill();
      else await append(lines, first);
      changes.notify();
    }
  }

  function spill(): void {
    isFull = true;
    tail.limit(tailBytes);
  }

  function write(work: () => Promise<void>): void {
    writing ??= attempt(work).finally(() => {
      writing = undefined;
      changes.notify();
      if (!isFull && tail.next > tail.first) write(writeHead);
    });
  }

  async function attempt(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      spill();
      log.error({ err: error, build: id }, 'the log of a build cannot be written');
    }
  }

  async function flush(): Promise<void> {
    while (writing) await writing;
  }

  function add(entry: LogEntry): void {
    tail.add(entry, encodeEntry(entry));
    if (isFull) changes.notify();
    else write(writeHead);
  }

  return {
    path,
    tail,
    changes,
    flush,
    createGap,
    get size() {
      return file?.size ?? 0;
    },
    get written() {
      return written;
    },
    get isSpilling() {
      return isFull && !writing;
    },
    get isEnded() {
      return isEnded;
    },
    add: event => add(entryOf(event)),
    async resume(note) {
      await flush();
      const isReported = await findReported(path, note).catch(error => {
        log.error({ err: error, build: id }, 'what the log of a build has already cannot be read');
        return () => false;
      });
      return event => {
        const entry = entryOf(event);
        if (!isReported(entry)) add(entry);
      };
    },
    async complete() {
      await flush();
      if (isFull) write(() => append(tail.lines(), tail.first));
      await flush();
    },
    async end() {
      await flush();
      isEnded = true;
      changes.notify();
      await file?.close().catch(() => {});
    },
  };
}

/** The id is checked: it holds no separator. */
export function logPath(directory: string, id: string): string {
  return join(directory, `${id}.log`);
}
