// What is kept in memory although it could be had again. All caches share one budget: where it is used up, what was used least lately goes,
// whosever it is. What nobody has come back for has a part of it alone: most is asked for once. An entry counts as what it really holds, which
// for small values is many times their bytes.
import { LRUCache } from 'lru-cache';

export interface Memory {
  /** A cache with keys of its own. What it holds may go at any time. */
  openCache<V extends Value>(options?: CacheOptions<V>): Cache<V>;
  /** What all caches hold, in bytes. */
  readonly bytes: number;
  /** What they may hold. */
  readonly maxBytes: number;
}

interface Cache<V extends Value> {
  /** The value, which others may share; it counts as used. */
  get(key: string): V | undefined;
  has(key: string): boolean;
  /** Keeps the value, which must not grow afterwards, unless it is too large to leave room for others. */
  set(key: string, value: V, options?: { readonly ttlMs?: number | undefined }): void;
  delete(key: string): void;
}

interface CacheOptions<V> {
  /** What a value holds, in bytes, where it has closures: nobody can look into these. Default: `weigh`. */
  readonly weigh?: (value: V) => number;
}

/** Undefined is what is not there. */
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

/** So many of the largest have room at once. */
const MIN_ENTRIES = 16;
/** What an entry costs beside key and value: itself, and its places in two maps and in the order of use, which are half empty at times. */
const ENTRY_BYTES = 300;
/** What a pull, and the pulls that follow from it, ask for is asked for again at once: who comes later shows that it is worth keeping. */
const FRESH_MS = 60_000;
/** What all may have that nobody has come back for. */
const FRESH_PART = 1 / 8;

const DEFAULT_BYTES = 64 * 1024 * 1024;
/** Of the process without any cache: Node, the program, what is under way, and what is garbage but not collected yet. */
const OWN_BYTES = 192 * 1024 * 1024;
const MIN_BYTES = 8 * 1024 * 1024;

/**
 * The most that caches, and bodies of each kind that are under way, can have in a process that the machine gives so much: half of what it does not
 * need itself. They are seldom all at their most.
 */
export function mostBytes(limitBytes: number): number {
  return Math.max(MIN_BYTES, Math.floor((limitBytes - OWN_BYTES) / 2));
}

/** `now`: in milliseconds, by a clock that is never set. */
export function createMemory(maxBytes = DEFAULT_BYTES, now = () => performance.now()): Memory {
  const maxEntryBytes = Math.floor(maxBytes / MIN_ENTRIES);
  const fresh = createOrder(maxBytes * FRESH_PART);
  const proven = createOrder(maxBytes * (1 - FRESH_PART));

  function createOrder(maxSize: number): Order {
    return new LRUCache({
      // By its size alone: for a number of entries it would take the memory of its lists at once.
      maxSize: Math.floor(maxSize),
      perf: { now },
      ttlResolution: 0,
      dispose: (entries, { key }, reason) => {
        if (reason !== 'delete') entries.delete(key);
      },
    });
  }

  /** What somebody has come back for stays whatever comes once. */
  function prove(entry: Entry, entries: Map<string, unknown>): void {
    const ttl = fresh.getRemainingTTL(entry);
    fresh.delete(entry);
    entry.order = proven;
    proven.set(entry, entries, { size: entry.size, ...(Number.isFinite(ttl) && { ttl }) });
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
        if (entry.order === fresh && now() - entry.since > FRESH_MS) prove(entry, entries);
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
      return fresh.calculatedSize + proven.calculatedSize;
    },
  };
}

/** Of V8 and Node, measured: what each thing takes beside what it refers to. */
const BYTES = { reference: 8, string: 24, object: 32, member: 40, buffer: 250, error: 1500, closure: 64 } as const;

/** What a value holds in memory, in bytes, what it shares with others included; of a part of a buffer, the whole. Closures hide what they hold. */
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
  // What else an error may hold, such as a connection, is nobody's to walk through.
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
