// Logs as records, for processes that share their builds: what one of them appends, all others can read. A record contains the lines of one
// append, or some of them; its key has the offset in bytes at which they begin.
import { type Expectation, keysOf, type ListOptions, pagesOf, type RecordStore } from '../../state/store.ts';
import type { LogEntry } from '../progress.ts';
import { decodeLines, type LogFile, type LogFiles, type LogReader } from './log-file.ts';

const COLLECTION = 'build-log';
/** Four appends in a second, of each running build. */
const PAUSE_MS = 250;
/** The maximum of a record, unless one line is longer. */
const CHUNK_BYTES = 128 * 1024;
/** How many records are read at once. */
const PAGE = 16;
const KEYS = 1000;

/** `keepMs`: how long a log is kept after its last line, where it is not swept before. */
export function createRecordLogs({
  records,
  keepMs,
  earlier,
}: {
  readonly records: Pick<RecordStore, 'get' | 'list' | 'entries' | 'write'>;
  readonly keepMs: number;
  /** Those of a process that had its builds alone. */
  readonly earlier: LogFiles;
}): LogFiles {
  const list = (options: ListOptions) => records.list(COLLECTION, options);
  const hasRecords = async (id: string) => (await list({ prefix: prefixOf(id), limit: 1 })).length > 0;

  async function findSize(id: string): Promise<number> {
    let last: string | undefined;
    for await (const key of keysOf({ list }, prefixOf(id))) last = key;
    if (last === undefined) return 0;
    return offsetOf(last) + ((await records.get(COLLECTION, last))?.byteLength ?? 0);
  }

  async function open(id: string, getFence: () => readonly Expectation[]): Promise<LogFile> {
    let size = await findSize(id);
    return {
      get size() {
        return size;
      },
      async append(lines) {
        let offset = size;
        const changes = chunksOf(lines).map(value => {
          const key = keyOf(id, offset);
          offset += value.byteLength;
          return { kind: 'put', collection: COLLECTION, key, value, ttlMs: keepMs } as const;
        });
        await records.write(changes, { expected: getFence() });
        size = offset;
      },
      async close() {},
    };
  }

  function createReader(id: string): LogReader {
    let position = 0;

    function* take(value: Uint8Array): Generator<LogEntry> {
      position += value.byteLength;
      yield* decodeLines(Buffer.from(value));
    }

    return {
      async *read(end = Number.POSITIVE_INFINITY) {
        while (position < end) {
          // By its key first, which is the cheapest question: mostly there is nothing new.
          const next = await records.get(COLLECTION, keyOf(id, position));
          if (!next) return;
          const after = keyOf(id, position);
          yield* take(next);
          for (const { key, value } of await records.entries(COLLECTION, {
            prefix: prefixOf(id),
            after,
            limit: PAGE,
          })) {
            if (position >= end || offsetOf(key) !== position) break;
            yield* take(value);
          }
        }
      },
      async close() {},
    };
  }

  async function remove(id: string): Promise<void> {
    for await (const keys of pagesOf(list, { prefix: prefixOf(id), limit: KEYS }))
      await records.write(keys.map(key => ({ kind: 'delete', collection: COLLECTION, key })));
  }

  return {
    pauseMs: PAUSE_MS,
    open,
    async openReader(id) {
      const isEarlier = !(await hasRecords(id)) && (await earlier.has(id));
      return isEarlier ? earlier.openReader(id) : createReader(id);
    },
    has: async id => (await hasRecords(id)) || earlier.has(id),
    async sweep(isKnown) {
      await earlier.sweep(isKnown);
      for (let after = ''; ; ) {
        const [key] = await list({ after, limit: 1 });
        if (key === undefined) return;
        const id = key.slice(0, key.lastIndexOf('/'));
        if (!(await isKnown(id))) await remove(id);
        // Behind all keys of this log.
        after = `${id}/~`;
      }
    },
  };
}

function prefixOf(id: string): string {
  return `${id}/`;
}

/** Of constant length, as stores list keys in ascending order. */
function keyOf(id: string, offset: number): string {
  return `${prefixOf(id)}${String(offset).padStart(15, '0')}`;
}

function offsetOf(key: string): number {
  return Number(key.slice(key.lastIndexOf('/') + 1));
}

function chunksOf(lines: readonly Uint8Array[]): readonly Uint8Array[] {
  const chunks: Uint8Array[][] = [];
  let bytes = Number.POSITIVE_INFINITY;
  for (const line of lines) {
    bytes += line.byteLength;
    if (bytes > CHUNK_BYTES) {
      chunks.push([]);
      bytes = line.byteLength;
    }
    chunks.at(-1)?.push(line);
  }
  return chunks.map(chunk => Buffer.concat(chunk));
}
