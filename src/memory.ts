// In-memory caches with one shared budget: when it is used up, the least recently used entry is evicted, whichever cache it is in. Entries
// that were never hit share a part of it only, since most are asked for once. An entry counts with its real size in memory, which for small
// values is many times their bytes.
import { LRUCache } from 'lru-cache';

export interface Memory {
  /** A cache with its own key space. Entries may be evicted at any time. */
  openCache<V extends Value>(options?: CacheOptions<V>): Cache<V>;
  /** The size of all caches, in bytes. */
  readonly bytes: number;
  /** The budget. */
  readonly maxBytes: number;
}

interface Cache<V extends Value> {
  /** The value, a shared object; counts as a use. */
  get(key: string): V | undefined;
  has(key: string): boolean;
  /** Caches the value, which must not grow afterwards, unless it is too large to leave room for others. */
  set(key: string, value: V, options?: { readonly ttlMs?: number | undefined }): void;
  delete(key: string): void;
}

interface CacheOptions<V> {
  /** The size of a value in bytes, where it has closures, which cannot be measured. Default: `weigh`. */
  readonly weigh?: (value: V) => number;
}

/** Undefined means absent. */
type Value = NonNullable<unknown>;

/** In the order of use. */
type Order = LRUCache<Entry, Map<string, unknown>>;

interface Entry {
  readonly key: string;
  /** In bytes. */
  readonly size: number;
  readonly since: number;
  order: Order;
}

/** This many of the largest fit at once. */
const MIN_ENTRIES = 16;
/**
 * The overhead of an entry besides key and value: the entry itself, and its slots in two maps and in the order of use, which are half empty
 * at times.
 */
const ENTRY_BYTES = 300;
/** A pull, and the pulls that follow from it, repeat requests at once: only a later hit shows that an entry is worth caching. */
const FRESH_MS = 60_000;
/** The share of all entries that were never hit. */
const FRESH_PART = 1 / 8;

const DEFAULT_BYTES = 64 * 1024 * 1024;
/** The process without any cache: Node, the program, work in progress, and garbage not collected yet. */
const OWN_BYTES = 192 * 1024 * 1024;
const MIN_BYTES = 8 * 1024 * 1024;

/**
 * The maximum of caches, and of bodies in progress of each kind, in a process with this much memory: half of what it does not need itself.
 * They are rarely all at their maximum.
 */
export function maxMemoryBytes(limitBytes: number): number {
  return Math.max(MIN_BYTES, Math.floor((limitBytes - OWN_BYTES) / 2));
}

/** `now`: in milliseconds, by a clock that is never set. */
export function createMemory(maxBytes = DEFAULT_BYTES, now = () => performance.now()): Memory {
  const maxEntryBytes = Math.floor(maxBytes / MIN_ENTRIES);
  const fresh = createOrder(maxBytes * FRESH_PART);
  const frequent = createOrder(maxBytes * (1 - FRESH_PART));

  function createOrder(maxSize: number): Order {
    return new LRUCache({
      // Bounded by size only: for a number of entries it would allocate its lists at once.
      maxSize: Math.floor(maxSize),
      perf: { now },
      ttlResolution: 0,
      dispose: (entries, { key }, reason) => {
        if (reason !== 'delete') entries.delete(key);
      },
    });
  }

  /** Entries that were hit are not displaced by one-time entries. */
  function promote(entry: Entry, entries: Map<string, unknown>): void {
    const ttl = fresh.getRemainingTTL(entry);
    fresh.delete(entry);
    entry.order = frequent;
    frequent.set(entry, entries, { size: entry.size, ...(Number.isFinite(ttl) && { ttl }) });
  }

  function openCache<V extends Value>({ weigh: weighOne = weigh }: CacheOptions<V> = {}): Cache<V> {
    const entries = new Map<string, Entry & { readonly value: V }>();

    function remove(key: string): void {
      const entry = entries.get(key);
      entries.delete(key);
      if (entry) entry.order.delete(entry);
    }

    return {
      get(key) {
        const entry = entries.get(key);
        if (!entry?.order.get(entry)) return undefined;
        if (entry.order === fresh && now() - entry.since > FRESH_MS) promote(entry, entries);
        return entry.value;
      },
      has(key) {
        const entry = entries.get(key);
        return entry?.order.has(entry) ?? false;
      },
      set(key, value, { ttlMs } = {}) {
        remove(key);
        const size = Math.ceil(ENTRY_BYTES + weigh(key) + weighOne(value));
        if (size > maxEntryBytes) return;
        const entry = { key, value, size, since: now(), order: fresh };
        entries.set(key, entry);
        fresh.set(entry, entries, { size, ...(ttlMs !== undefined && { ttl: ttlMs }) });
      },
      delete: remove,
    };
  }

  return {
    openCache,
    maxBytes,
    get bytes() {
      return fresh.calculatedSize + frequent.calculatedSize;
    },
  };
}

/** Measured for V8 and Node: the overhead of each kind of object. */
const BYTES = { reference: 8, string: 24, object: 32, member: 40, buffer: 250, error: 1500, closure: 64 } as const;

/**
 * The size of a value in memory, in bytes, including shared parts; for a slice of a buffer, the whole buffer. The contents of closures are
 * not visible.
 */
export function weigh(value: unknown, seen = new Set<unknown>()): number {
  if (typeof value === 'string') return BYTES.string + value.length;
  if (typeof value === 'function') return BYTES.closure;
  if (typeof value !== 'object' || value === null) return BYTES.reference;
  if (seen.has(value)) return BYTES.reference;
  seen.add(value);
  let bytes: number = BYTES.object;
  const add = (part: unknown) => {
    bytes += BYTES.reference + weigh(part, seen);
  };
  // Other contents of an error, such as a connection, are not walked.
  if (value instanceof Error) return BYTES.error + value.message.length + weigh(value.cause, seen);
  if (ArrayBuffer.isView(value)) return BYTES.buffer + value.buffer.byteLength;
  if (value instanceof Map) {
    for (const [key, member] of value) {
      bytes += BYTES.member;
      add(key);
      add(member);
    }
  } else if (value instanceof Set) {
    for (const member of value) {
      bytes += BYTES.member;
      add(member);
    }
  } else if (Array.isArray(value)) {
    for (const member of value) add(member);
  } else {
    for (const member of Object.values(value)) add(member);
  }
  return bytes;
}
