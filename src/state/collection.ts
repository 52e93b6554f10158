// One collection of JSON records: what goes in is typed, and what comes out is parsed, for an older release may have written it.
import type { z } from 'zod';
import type { Memory } from '../memory.ts';
import type { Change, Entry, ListOptions, PutOptions, RecordStore } from './store.ts';

export interface Collection<S extends z.ZodType> {
  /** The record, which others may share; undefined when there is none or it has expired. Throws for one that does not fit the schema. */
  get(key: string): Promise<z.output<S> | undefined>;
  /** Durable when it resolves. */
  put(key: string, record: z.input<S>, options?: PutOptions): Promise<void>;
  /** Whether there was such a record. */
  delete(key: string): Promise<boolean>;
  /** Keys in ascending order, at most `limit` of them. */
  list(options: ListOptions): Promise<readonly string[]>;
  /** What `list` gives, with the records. Throws for one that does not fit the schema. */
  entries(options: ListOptions): Promise<readonly Entry<z.output<S>>[]>;
  /** A put as a part of RecordStore.write. */
  putting(key: string, record: z.input<S>, options?: PutOptions): Change;
  /** A delete as a part of RecordStore.write. */
  deleting(key: string): Change;
}

export interface CollectionOptions<S extends z.ZodType> {
  readonly store: RecordStore;
  readonly name: string;
  readonly schema: S;
  /** Where parsed records are kept, and given to others as the same objects. Absent: small ones cost more to keep than to parse. */
  readonly memory?: Memory | undefined;
}

export function createCollection<S extends z.ZodType>(options: CollectionOptions<S>): Collection<S> {
  const { store, name, schema, memory } = options;
  // What was parsed stands for the same bytes.
  const parsed = memory?.openCache<{ readonly raw: Uint8Array; readonly record: z.output<S> }>();

  return {
    async get(key) {
      const raw = await store.get(name, key);
      if (!raw) return undefined;
      const known = parsed?.get(key);
      if (known && Buffer.compare(known.raw, raw) === 0) return known.record;
      const record = decode(raw, key);
      parsed?.set(key, { raw, record });
      return record;
    },
    put: (key, record, options) => store.put(name, key, encode(record), options),
    delete: key => store.delete(name, key),
    list: options => store.list(name, options),
    async entries(options) {
      const entries = await store.entries(name, options);
      return entries.map(({ key, value }) => ({ key, value: decode(value, key) }));
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
      throw new Error(`the stored record ${name}/${key} cannot be read`, { cause });
    }
  }
}
