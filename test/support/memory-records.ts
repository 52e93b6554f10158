// Records that live as long as the process: for tests, and for a store that may forget.
import { createProcessLocks } from '../../src/state/locks.ts';
import {
  type Change,
  compareKeys,
  type Expectation,
  type ListOptions,
  type PutOptions,
  RecordConflict,
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

  function put(collection: string, key: string, value: Uint8Array, { expiresAt, ttlMs }: PutOptions = {}): void {
    version += 1;
    const end = ttlMs === undefined ? expiresAt : new Date(now().getTime() + ttlMs);
    recordsOf(collection).set(key, { value: value.slice(), expiresAt: end });
  }

  function requireAsExpected({ collection, key, value }: Expectation): void {
    const record = recordsOf(collection).get(key);
    const found = record && isLive(record) ? record.value : undefined;
    const isEqual = found && value ? Buffer.compare(found, value) === 0 : found === value;
    if (!isEqual) throw new RecordConflict({ collection, key });
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
    async write(changes, { expected = [] } = {}) {
      expected.forEach(requireAsExpected);
      changes.forEach(apply);
    },
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
    locks: createProcessLocks(),
    async close() {},
  };
}
