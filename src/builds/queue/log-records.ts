// Logs as records, for processes that share their builds: what one of them appends, all others read. A record has the lines of one append, or
// a part of them, under the byte at which they begin.
import type { Expectation, RecordStore } from '../../state/store.ts';
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
}: {
  readonly records: Pick<RecordStore, 'get' | 'list' | 'entries' | 'write'>;
  readonly keepMs: number;
}): LogFiles {
  async function findFirst(prefix: string, after = ''): Promise<string | undefined> {
    return (await records.list(COLLECTION, { prefix, after, limit: 1 }))[0];
  }

  async function findSize(id: string): Promise<number> {
    let last: string | undefined;
    for (let after = ''; ; after = last ?? '') {
      const keys = await records.list(COLLECTION, { prefix: prefixOf(id), after, limit: KEYS });
      last = keys.at(-1) ?? last;
      if (keys.length < KEYS) break;
    }
    const value = last === undefined ? undefined : await records.get(COLLECTION, last);
    return last === undefined ? 0 : offsetOf(last) + (value?.byteLength ?? 0);
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
          // By its key, as that is cached: to ask again costs nothing until it is there.
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
    for (;;) {
      const keys = await records.list(COLLECTION, { prefix: prefixOf(id), limit: KEYS });
      if (keys.length === 0) return;
      await records.write(keys.map(key => ({ kind: 'delete', collection: COLLECTION, key })));
    }
  }

  return {
    pauseMs: PAUSE_MS,
    open,
    async openReader(id) {
      return createReader(id);
    },
    has: async id => (await findFirst(prefixOf(id))) !== undefined,
    async sweep(isKnown) {
      for (let key = await findFirst(''); key !== undefined; ) {
        const id = key.slice(0, key.lastIndexOf('/'));
        if (!(await isKnown(id))) await remove(id);
        // Behind all keys of this log.
        key = await findFirst('', `${id}/~`);
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
