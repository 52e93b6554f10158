// The file of one log: whole lines, each one entry, are appended to it and read while it grows.
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { type LogEntry, logEntrySchema, type ProgressEvent } from '../progress.ts';

export interface LogFile {
  /** The size in bytes up to the last whole line. */
  readonly size: number;
  /** Appends all of the lines or none. Rejects if they cannot be written. */
  append(lines: readonly Uint8Array[]): Promise<void>;
  close(): Promise<void>;
}

const LINE_FEED = 0x0a;

/** Creates the file, readable for this user only, if it is absent, and ends a line that a crash left incomplete. */
export async function openLogFile(path: string): Promise<LogFile> {
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

/** The entries in bytes `start` to `end`, which start at the beginning of a line. Invalid and incomplete lines are skipped. */
export async function* readEntries(file: FileHandle, start: number, end: number): AsyncGenerator<LogEntry> {
  let rest = Buffer.alloc(0);
  for (let offset = start; offset < end; ) {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(Math.min(CHUNK_BYTES, end - offset)), {
      position: offset,
    });
    if (bytesRead === 0) return;
    offset += bytesRead;
    const bytes = Buffer.concat([rest, buffer.subarray(0, bytesRead)]);
    const whole = bytes.lastIndexOf(LINE_FEED) + 1;
    yield* decodeLines(bytes.subarray(0, whole));
    rest = bytes.subarray(whole);
  }
}

function* decodeLines(bytes: Buffer): Generator<LogEntry> {
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

/** Whether the file has the entry after the note with this text, apart from its time; true once for each occurrence. */
export async function findReported(path: string, note: string): Promise<(entry: LogEntry) => boolean> {
  const counts = await countBehind(path, note);
  return entry => {
    const key = keyOf(entry);
    const count = counts.get(key) ?? 0;
    if (count > 0) counts.set(key, count - 1);
    return count > 0;
  };
}

async function countBehind(path: string, note: string): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  const file = await open(path);
  try {
    for await (const entry of readEntries(file, 0, (await file.stat()).size)) {
      if (counts.size === 0 && (entry.kind !== 'note' || entry.text !== note)) continue;
      const key = keyOf(entry);
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
  } finally {
    await file.close();
  }
  return counts;
}

function keyOf({ kind, platform, step, state, text, progress }: LogEntry): string {
  return JSON.stringify([kind, platform, step, state, text, progress?.current, progress?.total]);
}
