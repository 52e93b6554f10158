// The log of a build in progress. The file gets the beginning and, when the build is done, the end; entries in between that do not fit are
// omitted, with a note. A failing or slow disk costs entries, never the build.
import { setImmediate, setTimeout } from 'node:timers/promises';
import type { Logger } from 'pino';
import { type Expectation, RecordConflict } from '../../state/store.ts';
import type { LogEntry, ProgressEvent, Report } from '../progress.ts';
import {
  createEntry,
  encodeEntry,
  findReported,
  type LogFile,
  type LogFiles,
  type LogReader,
  type Redact,
} from './log-file.ts';
import { createNotifier, type Notifier } from './notifier.ts';

/** The state that a reader follows; `changes` is notified whenever it changes. */
export interface FollowedLog {
  /** As of LogFiles. */
  openReader(): Promise<LogReader | undefined>;
  /** The size of the file up to the last whole line. */
  readonly size: number;
  /** One more than the number of the last entry in the file. */
  readonly written: number;
  /** Whether the entries from `written` on are only in the tail, and are written to the file when the build is done. */
  readonly isSpilling: boolean;
  readonly isEnded: boolean;
  readonly tail: Pick<LogTail, 'first' | 'next' | 'find'>;
  readonly changes: Notifier;
  /** Resolves when all entries so far are in the file, as far as there is room. Never rejects. */
  flush(): Promise<void>;
  /** The note in place of omitted entries. */
  createGap(count: number): LogEntry;
}

export interface LiveLog extends FollowedLog {
  /** Never throws. */
  add(event: ProgressEvent): void;
  /**
   * Skips events that the file already has after the note with this text, for a builder that repeats its log from the beginning. Never
   * rejects.
   */
  resume(note: string): Promise<Report>;
  /** Writes the tail of a log that did not fit; nothing may be added afterwards. Never rejects. */
  complete(): Promise<void>;
  /** Ends all readers and closes the file. Never rejects. */
  end(): Promise<void>;
}

export interface LiveLogDeps {
  readonly files: LogFiles;
  readonly maxBytes: number;
  readonly redact: Redact;
  readonly now: () => Date;
  readonly log: Logger;
}

const MAX_TAIL_BYTES = 1024 * 1024;
/** How much may be pending while the file has room: a burst may be larger than the tail. */
const MAX_WAITING_BYTES = 8 * 1024 * 1024;
/** Reserved for the note about omitted entries. */
const NOTE_BYTES = 256;

/** `getFence` is that of LogFiles. */
export function createLiveLog(
  id: string,
  { files, maxBytes, redact, now, log }: LiveLogDeps,
  getFence: () => readonly Expectation[] = () => [],
): LiveLog {
  const tailBytes = Math.min(maxBytes / 4, MAX_TAIL_BYTES);
  const headBytes = maxBytes - tailBytes - NOTE_BYTES;
  const tail = createLogTail(MAX_WAITING_BYTES);
  const changes = createNotifier();
  let file: LogFile | undefined;
  let written = 0;
  let isFull = false;
  let isEnded = false;
  let writing: Promise<void> | undefined;
  /** How many callers wait until what was added is in the file. */
  let hasty = 0;
  let hurry = new AbortController();

  /** Replaces an entry that cannot be checked for secrets. */
  function entryOf(event: ProgressEvent): LogEntry {
    try {
      return createEntry(event, { redact, at: now() });
    } catch (error) {
      log.error({ err: error, build: id }, 'a line of the log of a build cannot be redacted');
      return {
        kind: 'note',
        text: 'a line was omitted: it could not be checked for secrets',
        at: now().toISOString(),
      };
    }
  }

  const createGap = (count: number) => entryOf({ kind: 'note', text: `${count} lines omitted` });

  /** `lines` are the entries from number `first` on. */
  async function append(lines: readonly Uint8Array[], first: number): Promise<void> {
    file ??= await files.open(id, getFence);
    const gap = first > written ? [encodeEntry(createGap(first - written))] : [];
    await file.append([...gap, ...lines]);
    written = first + lines.length;
  }

  async function writeHead(): Promise<void> {
    while (!isFull && tail.next > tail.first) {
      await pause();
      file ??= await files.open(id, getFence);
      const { first } = tail;
      const lines = tail.take(headBytes - file.size);
      if (lines.length === 0) spill();
      else await append(lines, first);
      changes.notify();
    }
  }

  /** Entries of one event loop iteration are written together, and those of the pause between two appends. */
  async function pause(): Promise<void> {
    await setImmediate();
    const { signal } = hurry;
    if (written > 0 && files.pauseMs > 0 && hasty === 0)
      await setTimeout(files.pauseMs, undefined, { signal }).catch(() => {});
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
      // Another process works on the build, and writes its log.
      if (error instanceof RecordConflict) return;
      log.error({ err: error, build: id }, 'the log of a build cannot be written');
    }
  }

  async function flush(): Promise<void> {
    hasty += 1;
    hurry.abort();
    hurry = new AbortController();
    while (writing) await writing;
    hasty -= 1;
  }

  async function readBack(note: string): Promise<(entry: LogEntry) => boolean> {
    const reader = await files.openReader(id);
    try {
      return await findReported(reader, note);
    } finally {
      await reader?.close();
    }
  }

  function add(entry: LogEntry): void {
    tail.add(entry, encodeEntry(entry));
    if (isFull) changes.notify();
    else write(writeHead);
  }

  return {
    openReader: () => files.openReader(id),
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
      const isReported = await readBack(note).catch(error => {
        log.error({ err: error, build: id }, 'the log of a build cannot be read back');
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

// The latest entries that are in no file yet, in bounded memory: the oldest are dropped if they come faster than the file takes them.

interface LogTail {
  /** The number of the first entry in the tail; entries are numbered from 0. */
  readonly first: number;
  /** The number of the next entry. */
  readonly next: number;
  add(entry: LogEntry, line: Uint8Array): void;
  /** The entry with this number, if it is in the tail. */
  find(number: number): LogEntry | undefined;
  /** All lines, without removing them. */
  lines(): readonly Uint8Array[];
  /** Changes the capacity; the latest entry always stays. */
  limit(maxBytes: number): void;
  /** Removes and returns as many of the first lines as fit into `maxBytes`. */
  take(maxBytes: number): readonly Uint8Array[];
}

/** The fraction that is left after a full tail was trimmed, so that not every new line costs a copy. */
const LEFT_PART = 7 / 8;

function createLogTail(limit: number): LogTail {
  let maxBytes = limit;
  let waiting: { readonly entry: LogEntry; readonly line: Uint8Array }[] = [];
  let bytes = 0;
  let first = 0;

  function drop(count: number): void {
    for (const { line } of waiting.slice(0, count)) bytes -= line.byteLength;
    waiting = waiting.slice(count);
    first += count;
  }

  function shorten(): void {
    if (bytes > maxBytes) drop(Math.min(countWithin(bytes - maxBytes * LEFT_PART) + 1, waiting.length - 1));
  }

  function countWithin(limit: number): number {
    let sum = 0;
    const end = waiting.findIndex(({ line }) => {
      sum += line.byteLength;
      return sum > limit;
    });
    return end === -1 ? waiting.length : end;
  }

  return {
    get first() {
      return first;
    },
    get next() {
      return first + waiting.length;
    },
    add(entry, line) {
      waiting.push({ entry, line });
      bytes += line.byteLength;
      shorten();
    },
    limit(bytesFromNowOn) {
      maxBytes = bytesFromNowOn;
      shorten();
    },
    find: number => waiting[number - first]?.entry,
    lines: () => waiting.map(({ line }) => line),
    take(limit) {
      const lines = waiting.slice(0, countWithin(limit)).map(({ line }) => line);
      drop(lines.length);
      return lines;
    },
  };
}
