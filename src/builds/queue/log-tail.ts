// The latest entries that are in no file yet, in bounded memory: the oldest are dropped if they come faster than the file takes them.
import type { LogEntry } from '../progress.ts';

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
