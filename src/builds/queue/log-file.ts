// The files of logs: whole lines, each one entry, are appended to them and read while they grow. What is on its way to them is in a tail.
import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Expectation } from '../../state/store.ts';
import { type LogEntry, logEntrySchema, type ProgressEvent } from '../progress.ts';
import { buildIdSchema } from '../record.ts';

/** Where the logs of builds are, each named by the id of its build. */
export interface LogFiles {
  /** For appending: created if absent. The caller closes it. `getFence` returns what each append expects, where the files are records. */
  open(id: string, getFence: () => readonly Expectation[]): Promise<LogFile>;
  /** For reading from the beginning; undefined if there is none. The caller closes it. */
  openReader(id: string): Promise<LogReader | undefined>;
  /** Whether there is a log of this id, with or without a record. */
  has(id: string): Promise<boolean>;
  /** Removes the logs of builds without a record. */
  sweep(isKnown: (id: string) => Promise<boolean>): Promise<void>;
  /** The pause between two appends, in which entries gather. */
  readonly pauseMs: number;
}

export interface LogFile {
  /** The size in bytes up to the last whole line. */
  readonly size: number;
  /** Appends all of the lines or none. Rejects if they cannot be written; after a transient error the same lines may be appended again. */
  append(lines: readonly Uint8Array[]): Promise<void>;
  close(): Promise<void>;
}

export interface LogReader {
  /**
   * The entries from where it is up to the byte `end`, by default the current end. Invalid and incomplete lines are skipped. After an error
   * the next call continues behind the last entry.
   */
  read(end?: number): AsyncGenerator<LogEntry>;
  close(): Promise<void>;
}

/** A log may precede its record: it is swept this long after its last line. */
const GRACE_MS = 3_600_000;

/** Creates the directory, accessible for this user only, if it is absent. */
export async function createDiskLogs({
  directory,
  now,
}: {
  readonly directory: string;
  readonly now: () => Date;
}): Promise<LogFiles> {
  await mkdir(directory, { recursive: true, mode: 0o700 });

  async function findEnd(id: string): Promise<number | undefined> {
    return (await stat(logPath(directory, id), { throwIfNoEntry: false }))?.mtimeMs;
  }

  return {
    pauseMs: 0,
    open: id => openLogFile(logPath(directory, id)),
    openReader: id => openLogReader(logPath(directory, id)),
    has: async id => (await findEnd(id)) !== undefined,
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

/** The id is validated: it holds no separator. */
export function logPath(directory: string, id: string): string {
  return join(directory, `${id}.log`);
}

function ignoreAbsence(error: unknown): undefined {
  if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
  return undefined;
}

const LINE_FEED = 0x0a;

/** Creates the file, readable for this user only, if it is absent, and ends a line that a crash left incomplete. */
async function openLogFile(path: string): Promise<LogFile> {
  const file = await open(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  let size = (await file.stat()).size;

  async function append(lines: readonly Uint8Array[]): Promise<void> {
    const bytes = Buffer.concat(lines);
    try {
      await writeAll(file, bytes, size);
      size += bytes.byteLength;
    } catch (error) {
      await file.truncate(size);
      throw error;
    }
  }

  const logFile: LogFile = {
    get size() {
      return size;
    },
    append,
    close: () => file.close(),
  };
  try {
    if (await isBrokenOff(file, size)) await append([Buffer.of(LINE_FEED)]);
  } catch (error) {
    await file.close();
    throw error;
  }
  return logFile;
}

async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.byteLength; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.byteLength - done, position + done);
    done += bytesWritten;
  }
}

async function isBrokenOff(file: FileHandle, size: number): Promise<boolean> {
  if (size === 0) return false;
  const { buffer } = await file.read(Buffer.alloc(1), 0, 1, size - 1);
  return buffer[0] !== LINE_FEED;
}

const CHUNK_BYTES = 64 * 1024;

async function openLogReader(path: string): Promise<LogReader | undefined> {
  const file = await open(path).catch(ignoreAbsence);
  if (!file) return undefined;
  let position = 0;
  return {
    async *read(end = Number.POSITIVE_INFINITY) {
      let rest = Buffer.alloc(0);
      for (let offset = position; offset < end; ) {
        const { bytesRead, buffer } = await file.read(Buffer.alloc(Math.min(CHUNK_BYTES, end - offset)), {
          position: offset,
        });
        if (bytesRead === 0) return;
        offset += bytesRead;
        const bytes = Buffer.concat([rest, buffer.subarray(0, bytesRead)]);
        const whole = bytes.lastIndexOf(LINE_FEED) + 1;
        rest = bytes.subarray(whole);
        position = offset - rest.length;
        yield* decodeLines(bytes.subarray(0, whole));
      }
    },
    close: () => file.close(),
  };
}

/** The entries of whole lines; invalid ones are skipped. */
export function* decodeLines(bytes: Buffer): Generator<LogEntry> {
  for (let start = 0; start < bytes.byteLength; ) {
    const end = bytes.indexOf(LINE_FEED, start);
    const entry = decodeEntry(bytes.subarray(start, end));
    if (entry) yield entry;
    start = end + 1;
  }
}

export type Redact = (text: string) => string;

/** In UTF-16 units; a longer line is truncated. */
const MAX_TEXT_LENGTH = 8192;

/** An entry that may be stored and sent: without secrets, and bounded. The whole text is redacted before it is truncated. */
export function createEntry(
  event: ProgressEvent,
  { redact, at }: { readonly redact: Redact; readonly at: Date },
): LogEntry {
  const { text, step } = event;
  return {
    ...event,
    at: at.toISOString(),
    ...(step !== undefined && { step: bound(redact(step)) }),
    ...(text !== undefined && { text: bound(redact(text)) }),
  };
}

function bound(text: string): string {
  return text.length > MAX_TEXT_LENGTH ? `${text.slice(0, MAX_TEXT_LENGTH).toWellFormed()}…` : text;
}

export function encodeEntry(entry: LogEntry): Uint8Array {
  return Buffer.from(`${JSON.stringify(entry)}\n`);
}

/** Undefined for an invalid line, such as one that a crash left incomplete. */
function decodeEntry(line: Uint8Array): LogEntry | undefined {
  try {
    return logEntrySchema.parse(JSON.parse(Buffer.from(line).toString()));
  } catch {
    return undefined;
  }
}

/** Whether the log has the entry after the note with this text, apart from its time; true once for each occurrence. */
export async function findReported(reader: LogReader | undefined, note: string): Promise<(entry: LogEntry) => boolean> {
  const counts = new Map<string, number>();
  for await (const entry of reader?.read() ?? []) {
    if (counts.size === 0 && (entry.kind !== 'note' || entry.text !== note)) continue;
    const key = keyOf(entry);
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return entry => {
    const key = keyOf(entry);
    const count = counts.get(key) ?? 0;
    if (count > 0) counts.set(key, count - 1);
    return count > 0;
  };
}

function keyOf({ kind, platform, step, state, text, progress }: LogEntry): string {
  return JSON.stringify([kind, platform, step, state, text, progress?.current, progress?.total]);
}

// The latest entries that are in no file yet, in bounded memory: the oldest are dropped if they come faster than the file takes them.

export interface LogTail {
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

export function createLogTail(limit: number): LogTail {
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
