// Records that live as long as the process: for tests, and for a store that may forget.
import type { RecordStore } from './store.ts';

interface StoredRecord {
  readonly value: Uint8Array;
  readonly expiresAt: Date | undefined;
}

export function createMemoryStore({ now = () => new Date() }: { readonly now?: () => Date } = {}): RecordStore {
  const collections = new Map<string, Map<string, StoredRecord>>();
  const recordsOf = (collection: string) => {
    const records = collections.get(collection) ?? new Map<string, StoredRecord>();
    collections.set(collection, records);
    return records;
  };
  const isLive = (record: StoredRecord) => !record.expiresAt || record.expiresAt > now();
  return {
    async get(collection, key) {
      const record = recordsOf(collection).get(key);
      return record && isLive(record) ? record.value.slice() : undefined;
    },
    async put(collection, key, value, { expiresAt } = {}) {
      recordsOf(collection).set(key, { value: value.slice(), expiresAt });
    },
    async delete(collection, key) {
      const record = recordsOf(collection).get(key);
      recordsOf(collection).delete(key);
      return record !== undefined && isLive(record);
    },
    async list(collection, { after = '', limit }) {
      const live = [...recordsOf(collection)].filter(([key, record]) => isLive(record) && compareKeys(key, after) > 0);
      return live
        .map(([key]) => key)
        .sort(compareKeys)
        .slice(0, limit);
    },
    async sweep() {
      const expired = [...collections.values()].flatMap(records =>
        [...records].filter(([, record]) => !isLive(record)).map(([key]) => ({ records, key })),
      );
      for (const { records, key } of expired) records.delete(key);
      return expired.length;
    },
    async close() {},
  };
}

/** By their UTF-8 bytes, as SQLite and Redis compare. */
function compareKeys(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
