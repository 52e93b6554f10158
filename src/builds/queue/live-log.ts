// The log of a build in progress. The file gets the beginning and, when the build is done, the end; entries in between that do not fit are
// omitted, with a note. A failing or slow disk costs entries, never the build. While the records that the file consists of are away, entries
// wait in memory.
import { setTimeout as delay, setImmediate } from 'node:timers/promises';
import type { Logger } from 'pino';
import { type Expectation, isTransient, RecordConflict } from '../../state/store.ts';
import type { LogEntry, ProgressEvent, Report } from '../progress.ts';
import {
  createEntry,
  createLogTail,
  encodeEntry,
  findReported,
  type LogFile,
  type LogFiles,
  type LogReader,
  type LogTail,
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
  /** Resolves when all entries so far are in the file, as far as there is room and the file is not away. Never rejects. */
  flush(): Promise<void>;
  /** The note in place of omitted entries. */
  createGap(count: number): LogEntry;
}

export interface LiveLog extends FollowedLog {
  /** Never throws. */
  add(event: ProgressEvent): void;
  /**
   * Skips events that the file already has after the note with this text, for a builder that repeats its log from the beginning. Waits
   * for a file that is away. Never rejects.
   */
  resume(note: string): Promise<Report>;
  /**
   * Writes the tail of a log that did not fit; nothing may be added afterwards. Rejects with the reason while the file is away: then it may
   * be called again, also after the end.
   */
  complete(): Promise<void>;
  /** Ends all readers and closes the file. Entries that it has not got are not waited for. Never rejects. */
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
/** Between two attempts to write to, or read, a file that is away. */
const AWAY_MS = 1000;
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
  let writing: Promise<void> | undefined;
  /** Lines of which it is not known whether the file has them: to be appended as they are, so that it has them once. */
  let pending: { readonly lines: readonly Uint8Array[]; readonly next: number } | undefined;
  let away: { readonly reason: unknown; readonly timer: NodeJS.Timeout | undefined } | undefined;
  const ended = new AbortController();
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
    const gap = first > written ? [encodeEntry(createGap(first - written))] : [];
    pending = { lines: [...gap, ...lines], next: first + lines.length };
    await appendPending();
  }

  async function appendPending(): Promise<void> {
    if (!pending) return;
    file ??= await files.open(id, getFence);
    await file.append(pending.lines);
    written = pending.next;
    pending = undefined;
  }

  async function writeHead(): Promise<void> {
    await appendPending();
    while (hasMore()) {
      await pause();
      file ??= await files.open(id, getFence);
      const { first } = tail;
      const lines = tail.take(headBytes - file.size);
      if (lines.length === 0) spill();
      else await append(lines, first);
      changes.notify();
    }
  }

  const hasMore = () => !isFull && tail.next > tail.first;

  /** Entries of one event loop iteration are written together, and those of the pause between two appends. */
  async function pause(): Promise<void> {
    await setImmediate();
    const { signal } = hurry;
    if (written > 0 && files.pauseMs > 0 && hasty === 0)
      await delay(files.pauseMs, undefined, { signal }).catch(() => {});
  }

  function spill(): void {
    isFull = true;
    tail.limit(tailBytes);
  }

  function write(work: () => Promise<void>): void {
    if (away) return;
    writing ??= attempt(work).finally(() => {
      writing = undefined;
      changes.notify();
      if (hasMore()) write(writeHead);
    });
  }

  function retry(): void {
    clearTimeout(away?.timer);
    away = undefined;
    write(writeHead);
  }

  async function attempt(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (isTransient(error)) {
        away = { reason: error, timer: ended.signal.aborted ? undefined : setTimeout(retry, AWAY_MS) };
        return;
      }
      pending = undefined;
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
    if (away) retry();
    while (writing) await writing;
    hasty -= 1;
  }

  async function readBack(note: string): Promise<(entry: LogEntry) => boolean> {
    await flush();
    if (away) throw away.reason;
    const reader = await files.openReader(id);
    try {
      return await findReported(reader, note);
    } finally {
      await reader?.close();
    }
  }

  /** Until the log has ended. */
  async function readBackOnceThere(note: string): Promise<(entry: LogEntry) => boolean> {
    for (;;) {
      try {
        return await readBack(note);
      } catch (error) {
        if (!isTransient(error)) throw error;
      }
      await delay(AWAY_MS, undefined, { signal: ended.signal });
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
      return ended.signal.aborted;
    },
    add: event => add(entryOf(event)),
    async resume(note) {
      const isReported = await readBackOnceThere(note).catch(error => {
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
      if (isFull && !away && written < tail.next) {
        write(() => append(tail.lines(), tail.first));
        await flush();
      }
      if (away) throw away.reason;
    },
    async end() {
      await flush();
      clearTimeout(away?.timer);
      ended.abort();
      changes.notify();
      await file?.close().catch(() => {});
    },
  };
}
