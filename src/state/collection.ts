// A typed collection of JSON records: values are parsed when read, since an older release may have written them.
import type { z } from 'zod';
import type { Memory } from '../memory.ts';
import {
  type Change,
  type Entry,
  type Expectation,
  type ListOptions,
  type PutOptions,
  RecordConflict,
  type RecordStore,
  RecordUnreadable,
} from './store.ts';

export interface Collection<S extends z.ZodType> {
  /** The record, a shared object; undefined when there is none or it has expired. Throws RecordUnreadable. */
  get(key: string): Promise<z.output<S> | undefined>;
  /** The same, for a record that is overwritten or dispensable: undefined also for one that cannot be read, which the store reports. */
  find(key: string): Promise<z.output<S> | undefined>;
  /** Whether there is one, readable or not. */
  has(key: string): Promise<boolean>;
  /** Durable when it resolves. */
  put(key: string, record: z.input<S>, options?: PutOptions): Promise<void>;
  /** Whether there was such a record. */
  delete(key: string): Promise<boolean>;
  /** Keys in ascending order, at most `limit` of them. */
  list(options: ListOptions): Promise<readonly string[]>;
  /** Like `list`, with the records. Unreadable ones are skipped, and reported by the store. */
  entries(options: ListOptions): Promise<readonly ExpectedEntry<z.output<S>>[]>;
  /**
   * Reads the record, and writes what `change` makes of it, if anything; once more where somebody else has changed it in between. `change` gets
   * undefined for one that is absent or unreadable.
   */
  update(key: string, change: (record: z.output<S> | undefined) => Replacement<S> | undefined): Promise<void>;
  /** The record, undefined where it is absent or unreadable, and what a write that depends on it has to expect. */
  expecting(key: string): Promise<{ readonly record: z.output<S> | undefined; readonly expected: Expectation }>;
  /** A put as a part of RecordStore.write. */
  putting(key: string, record: z.input<S>, options?: PutOptions): Change;
  /** A delete as a part of RecordStore.write. */
  deleting(key: string): Change;
}

interface ExpectedEntry<V> extends Entry<V> {
  /** As for `expecting`. */
  readonly expected: Expectation;
}

interface Replacement<S extends z.ZodType> extends PutOptions {
  readonly record: z.input<S>;
}

interface CollectionOptions<S extends z.ZodType> {
  readonly store: RecordStore;
  readonly name: string;
  readonly schema: S;
  /** A cache of parsed records, returned as shared objects. Absent: caching small ones costs more than parsing. */
  readonly memory?: Memory | undefined;
}

/** Reports per collection: more would tell the operator nothing new. */
const MAX_REPORTED = 1000;

export function createCollection<S extends z.ZodType>(options: CollectionOptions<S>): Collection<S> {
  const { store, name, schema, memory } = options;
  // The parsed record stays valid for the same bytes.
  const parsed = memory?.openCache<{ readonly raw: Uint8Array; readonly record: z.output<S> }>();

  /** Keys already reported. */
  const reported = new Set<string>();

  async function get(key: string): Promise<z.output<S> | undefined> {
    const raw = await store.get(name, key);
    if (!raw) return undefined;
    const known = parsed?.get(key);
    if (known && Buffer.compare(known.raw, raw) === 0) return known.record;
    const record = decode(raw, key);
    parsed?.set(key, { raw, record });
    return record;
  }

  /** Reports each once. */
  function report(error: unknown, key: string): void {
    if (!(error instanceof RecordUnreadable)) throw error;
    if (reported.has(key)) return;
    if (reported.size < MAX_REPORTED) reported.add(key);
    store.onUnreadable?.(error);
  }

  async function expecting(key: string) {
    const value = await store.get(name, key);
    const record = value && readable(value, key);
    return { record, expected: { collection: name, key, value } };
  }

  function readable(raw: Uint8Array, key: string): z.output<S> | undefined {
    try {
      return decode(raw, key);
    } catch (error) {
      return void report(error, key);
    }
  }

  return {
    get,
    expecting,
    async update(key, change) {
      for (;;) {
        const { record, expected } = await expecting(key);
        const next = change(record);
        if (!next) return;
        const { record: value, ...options } = next;
        try {
          await store.write([{ kind: 'put', collection: name, key, value: encode(value), ...options }], {
            expected: [expected],
          });
          return;
        } catch (error) {
          if (!(error instanceof RecordConflict)) throw error;
        }
      }
    },
    find: key => get(key).catch(error => void report(error, key)),
    has: async key => (await store.get(name, key)) !== undefined,
    put: (key, record, options) => store.put(name, key, encode(record), options),
    delete: key => store.delete(name, key),
    list: options => store.list(name, options),
    async entries(options) {
      const found: ExpectedEntry<z.output<S>>[] = [];
      for (let { after = '' } = options; ; ) {
        const limit = options.limit - found.length;
        const page = await store.entries(name, { ...options, after, limit });
        for (const { key, value } of page) {
          try {
            found.push({ key, value: decode(value, key), expected: { collection: name, key, value } });
          } catch (error) {
            report(error, key);
          }
        }
        // Skipped records are made up for: a short page means the end.
        if (page.length < limit || found.length === options.limit) return found;
        after = page.at(-1)?.key ?? '';
      }
    },
    putting: (key, record, options) => ({ kind: 'put', collection: name, key, value: encode(record), ...options }),
    deleting: key => ({ kind: 'delete', collection: name, key }),
  };

  function encode(record: z.input<S>): Uint8Array {
    return new TextEncoder().encode(JSON.stringify(record));
  }

  function decode(raw: Uint8Array, key: string): z.output<S> {
    try {
      return schema.parse(JSON.parse(new TextDecoder().decode(raw)));
    } catch (cause) {
      throw new RecordUnreadable(`the stored record ${name}/${key} cannot be read`, { cause });
    }
  }
}
