// One collection of JSON records: what goes in is typed, and what comes out is parsed, for an older release may have written it.
import type { z } from 'zod';
import type { PutOptions, RecordStore } from './store.ts';

export interface Collection<S extends z.ZodType> {
  /** The record; undefined when there is none or it has expired. Throws for one that does not fit the schema. */
  get(key: string): Promise<z.output<S> | undefined>;
  /** Durable when it resolves. */
  put(key: string, record: z.input<S>, options?: PutOptions): Promise<void>;
  /** Whether there was such a record. */
  delete(key: string): Promise<boolean>;
  /** Keys in ascending order, those after `after` only, at most `limit` of them. */
  list(options: { readonly after?: string; readonly limit: number }): Promise<readonly string[]>;
}

export interface CollectionOptions<S extends z.ZodType> {
  readonly store: RecordStore;
  readonly name: string;
  readonly schema: S;
}

export function createCollection<S extends z.ZodType>({ store, name, schema }: CollectionOptions<S>): Collection<S> {
  return {
    async get(key) {
      const raw = await store.get(name, key);
      return raw && decode(raw, `${name}/${key}`);
    },
    put: (key, record, options) => store.put(name, key, new TextEncoder().encode(JSON.stringify(record)), options),
    delete: key => store.delete(name, key),
    list: options => store.list(name, options),
  };

  function decode(raw: Uint8Array, what: string): z.output<S> {
    try {
      return schema.parse(JSON.parse(new TextDecoder().decode(raw)));
    } catch (cause) {
      throw new Error(`the stored record ${what} cannot be read`, { cause });
    }
  }
}
