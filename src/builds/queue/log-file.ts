// The file of one log: whole lines are appended to it, and read while it grows.
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { LogEntry } from '../progress.ts';
import { decodeEntry } from './log-entry.ts';

export interface LogFile {
  /** Bytes that are written and end with a whole line. */
  readonly size: number;
  /** All of it or nothing. Rejects where it cannot be written. */
  append(lines: readonly Uint8Array[]): Promise<void>;
  close(): Promise<void>;
}

const LINE_FEED = 0x0a;

/** Makes the file where it is absent, for this user alone, and ends a line that a crash has broken off. */
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

/** The entries in bytes `start` to `end`, which begin and end with a line, or with one that is broken off. What is no entry is left out. */
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
