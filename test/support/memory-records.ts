// Records that live as long as the process: for tests, and for a store that may forget.
import {
  type Change,
  compareKeys,
  type ListOptions,
  type PutOptions,
  type RecordStore,
} from '../../src/state/store.ts';

interface StoredRecord {
  readonly value: Uint8Array;
  readonly expiresAt: Date | undefined;
}

export function createMemoryStore({ now = () => new Date() }: { readonly now?: () => Date } = {}): RecordStore {
  const collections = new Map<string, Map<string, StoredRecord>>();
  let version = 0;
  const recordsOf = (collection: string) => {
    const records = collections.get(collection) ?? new Map<string, StoredRecord>();
    collections.set(collection, records);
    return records;
  };
  const isLive = (record: StoredRecord) => !record.expiresAt || record.expiresAt > now();

  function put(collection: string, key: string, value: Uint8Array, { expiresAt }: PutOptions = {}): void {
    version += 1;
    recordsOf(collection).set(key, { value: value.slice(), expiresAt });
  }

  function remove(collection: string, key: string): boolean {
    version += 1;
    const record = recordsOf(collection).get(key);
    recordsOf(collection).delete(key);
    return record !== undefined && isLive(record);
  }

  function apply(change: Change): void {
    if (change.kind === 'put') put(change.collection, change.key, change.value, change);
    else remove(change.collection, change.key);
  }

  function select(collection: string, { prefix = '', after = '', limit }: ListOptions) {
    return [...recordsOf(collection)]
      .filter(([key, record]) => key.startsWith(prefix) && compareKeys(key, after) > 0 && isLive(record))
      .sort(([a], [b]) => compareKeys(a, b))
      .slice(0, limit)
      .map(([key, { value }]) => ({ key, value: value.slice() }));
  }

  return {
    async get(collection, key) {
      const record = recordsOf(collection).get(key);
      return record && isLive(record) ? record.value.slice() : undefined;
    },
    put: async (collection, key, value, options) => put(collection, key, value, options),
    delete: async (collection, key) => remove(collection, key),
    write: async changes => changes.forEach(apply),
    list: async (collection, options) => select(collection, options).map(({ key }) => key),
    entries: async (collection, options) => select(collection, options),
    async sweep() {
      const expired = [...collections.values()].flatMap(records =>
        [...records].filter(([, record]) => !isLive(record)).map(([key]) => ({ records, key })),
      );
      for (const { records, key } of expired) records.delete(key);
      return expired.length;
    },
    version: () => version,
    async close() {},
  };
}
