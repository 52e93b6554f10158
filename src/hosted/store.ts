// What all parts of the hosted repositories share: content, records, and the locks that keep them in step, of all processes that share the
// records: one for each repository, and one for each content that is being deleted.
import { randomFillSync, randomUUID } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import pLimit, { type LimitFunction } from 'p-limit';
import { isDiskFull } from '../content/free-space.ts';
import type { ContentStore } from '../content/store.ts';
import type { Memory } from '../memory.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import {
  type Change,
  type Expectation,
  type Lock,
  type Locks,
  type RecordStore,
  scanPrefixes,
} from '../state/store.ts';
import { createHostedRecords, type HostedRecords, holdersKey } from './records.ts';

export interface HostedStore {
  readonly content: ContentStore;
  readonly records: HostedRecords;
  readonly memory: Memory;
  readonly now: () => Date;
  readonly locks: Locks;
  readonly options: HostedOptions;
  /** Recent accesses of clients, by `linkKey`. */
  readonly recentAccess: RecentAccess;
  /**
   * Runs work exclusively that changes the manifests and tags of a repository, or unlinks its blobs, together with the reads that it depends
   * on. Blobs are linked without it. Must not wait for a client or move many bytes, and must not be nested. `locked` is to be used for what is
   * written: that fails once the lock is lost, or `lease` is, of content that is linked.
   */
  withLock<T>(repository: string, work: (locked: HostedStore) => Promise<T>, lease?: Lock): Promise<T>;
  /**
   * Runs `work`, which stores content of `digest` and then links it: in between, the content counts as needed. If `work` throws, content
   * that it left unlinked is deleted, unless it existed before. Must not be called inside `withLock`; what links the content expects the
   * lease. `isStored`: whether the content was there before.
   */
  withLease<T>(digest: Digest, work: (lease: Lock | undefined, isStored: boolean) => Promise<T>): Promise<T>;
  /** Whether a repository links the content, or it is leased. */
  isNeeded(digest: Digest): Promise<boolean>;
  /** Deletes content that is not needed, unless the records may be incomplete. Returns whether it is gone. */
  deleteUnlinked(digest: Digest): Promise<boolean>;
  /** The same for many. Ends, also with an error, when all deletions have ended. Returns those that are gone. */
  deleteAllUnlinked(digests: readonly Digest[]): Promise<ReadonlySet<Digest>>;
  /** Runs work while the content is not deleted, if it is needed; otherwise gives undefined. */
  ifNeeded<T>(digest: Digest, work: () => Promise<T>): Promise<T | undefined>;
  /** Why content without a record must be retained; undefined where it may be deleted. */
  reasonToKeep(): string | undefined;
}

/** Operator settings, and hooks for quotas and events. */
export interface HostedOptions {
  /** How long an upload may go without receiving bytes. */
  readonly uploadTimeoutMs: number;
  /**
   * How long an upload may be known to this process alone, from its beginning, unless a request adds to it: most end at once, and save a
   * record and a file. A crash in that time ends it.
   */
  readonly keepUploadsAfterMs: number;
  /** How many uploads may be in progress in a repository; further ones are refused with TOOMANYREQUESTS. */
  readonly maxUploads: number;
  readonly sparse: Sparse;
  /** What may be deleted by request; anything else is UNSUPPORTED. */
  readonly deletes: { readonly tags: boolean; readonly manifests: boolean; readonly blobs: boolean };
  /** Whether a tag, once set, can be neither moved nor deleted. */
  readonly isImmutable: (repository: string, tag: string) => boolean;
  readonly quota: Quota;
  /** Called with each change once it is durable, and awaited before the change is acknowledged. Must not fail. */
  readonly onChange: (change: HostedChange) => unknown;
}

/** Which missing references are allowed: none, those of an index to manifests, or any. */
type Sparse = 'refuse' | 'indexes' | 'allow';

export interface Quota {
  /** Called before an upload grows to `size` bytes: for the announced size, and for each piece. Throws RegistryError to refuse. */
  admitUpload(repository: string, size: number, id: string): void | Promise<void>;
  /** The upload has ended: its bytes became content, or were deleted. */
  endUpload?(id: string): void;
  /**
   * Called when `repository` is about to link new content, or to unlink it: then `bytes` is negative. Throws RegistryError to refuse, and
   * otherwise what `write` throws. That gets what has to be written together with the links; and once more, where somebody else has changed
   * what it expects.
   */
  account(repository: string, bytes: number, write: (accounts: Accounts) => Promise<void>): Promise<void>;
}

interface Accounts {
  readonly changes: readonly Change[];
  readonly expected: readonly Expectation[];
}

export interface HostedChange {
  readonly kind: 'push' | 'delete';
  readonly repository: string;
  readonly digest: Digest;
  /** Where a tag was set or removed. */
  readonly tag?: string;
  /** application/octet-stream for a blob. */
  readonly mediaType: string;
  /** In bytes. */
  readonly size: number;
}

export function createHostedStore(deps: {
  readonly content: ContentStore;
  readonly records: RecordStore;
  readonly memory: Memory;
  readonly now: () => Date;
  readonly options?: Partial<HostedOptions> | undefined;
  /** Why the records may be incomplete, for the operator. Default: they are complete. */
  readonly reasonToKeep?: (() => string | undefined) | undefined;
}): HostedStore {
  const { content, memory, now, reasonToKeep = () => undefined } = deps;
  const { locks } = deps.records;
  const records = createHostedRecords(deps.records);
  /** By this process. */
  const leases = new Map<Digest, number>();

  const withLock: HostedStore['withLock'] = (repository, work, lease) =>
    refuseFullDisk(() => locks.withLock(`hosted/${repository}`, lock => work(fenced([lock, lease]))));

  function fenced(held: readonly (Lock | undefined)[]): HostedStore {
    const fence = held.flatMap(lock => lock?.fence ?? []);
    return fence.length === 0
      ? store
      : { ...store, records: createHostedRecords(createFencedRecords(deps.records, fence)) };
  }

  const isLinked = async (digest: Digest) =>
    (await records.holders.list({ prefix: holdersKey(digest), limit: 1 })).length > 0;

  async function isNeeded(digest: Digest): Promise<boolean> {
    // In this order: a lease ends after its content was linked.
    if ((leases.get(digest) ?? 0) > 0) return true;
    if ((await listShared(digest)).some(key => key !== deletionKey(digest))) return true;
    return isLinked(digest);
  }

  /** Of all processes: leases, and the deletion, where one is under way. */
  async function listShared(digest: Digest): Promise<readonly string[]> {
    return locks.areShared ? locks.listHeld(leaseKey(digest)) : [];
  }

  async function deleteUnlinked(digest: Digest): Promise<boolean> {
    if (reasonToKeep() !== undefined) return false;
    // A lock of several processes is a record.
    if (locks.areShared && (await isNeeded(digest))) return false;
    return locks.withLock(deletionKey(digest), async lock => {
      // Whoever needs it from here on waits: see `findStored`.
      if (await isNeeded(digest)) return false;
      await lock.confirm();
      await content.delete(digest);
      return true;
    });
  }

  async function deleteAllUnlinked(digests: readonly Digest[]): Promise<ReadonlySet<Digest>> {
    const limit = pLimit(DELETED_AT_ONCE);
    const sorted = [...new Set(digests)].sort();
    const gone = new Set<Digest>();
    const step = locks.areShared ? sorted.length : LOCKED_AT_ONCE;
    for (let at = 0; at < sorted.length; at += step) {
      const some = sorted.slice(at, at + step);
      const each = locks.areShared
        ? some.map(digest => limit(async () => ({ digest, isGone: await deleteUnlinked(digest) })))
        : deleteTogether(some, limit);
      for (const result of await Promise.allSettled(each)) {
        if (result.status === 'rejected') throw result.reason;
        if (result.value.isGone) gone.add(result.value.digest);
      }
      await setImmediate();
    }
    return gone;
  }

  /** Each has the lock of its deletion, as in `deleteUnlinked`; once all have it, what is needed of them is read together. */
  function deleteTogether(sorted: readonly Digest[], limit: LimitFunction) {
    const locked = Promise.withResolvers<void>();
    let waiting = sorted.length;
    const unneeded = locked.promise.then(() => findUnneeded(sorted));
    return sorted.map(digest =>
      locks.withLock(deletionKey(digest), async () => {
        waiting -= 1;
        if (waiting === 0) locked.resolve();
        const isGone = (await unneeded).has(digest);
        if (isGone) await limit(() => content.delete(digest));
        return { digest, isGone };
      }),
    );
  }

  /** In order, as `isNeeded` says of each where this process alone has locks. */
  async function findUnneeded(sorted: readonly Digest[]): Promise<ReadonlySet<Digest>> {
    if (reasonToKeep() !== undefined) return new Set();
    const unleased = sorted.filter(digest => (leases.get(digest) ?? 0) === 0);
    const isHeld = scanPrefixes(records.holders);
    const unneeded = new Set<Digest>();
    for (const digest of unleased) if (!(await isHeld(holdersKey(digest)))) unneeded.add(digest);
    return unneeded;
  }

  /** Under a lease, `own`: whether the content exists, and whether nobody else needs it. Waits for a deletion that is under way. */
  async function findStored(digest: Digest, own: string) {
    const deletion = deletionKey(digest);
    const shared = await listShared(digest);
    if (shared.includes(deletion) || locks.isLocked(deletion)) await locks.withLock(deletion, async () => {});
    const isShared = (leases.get(digest) ?? 0) > 1 || shared.some(key => key !== own && key !== deletion);
    const isStored = (await content.find(digest)) !== undefined;
    return { isStored, isStray: isStored && !isShared && !(await isLinked(digest)) };
  }

  function count(digest: Digest, step: 1 | -1): void {
    const next = (leases.get(digest) ?? 0) + step;
    if (next > 0) leases.set(digest, next);
    else leases.delete(digest);
  }

  async function lease<T>(digest: Digest, key: string, work: (lock: Lock | undefined) => Promise<T>): Promise<T> {
    count(digest, 1);
    try {
      return await (locks.areShared ? locks.withLock(key, work) : work(undefined));
    } finally {
      count(digest, -1);
    }
  }

  const withLease: HostedStore['withLease'] = async (digest, work) => {
    const key = leaseKey(digest, randomUUID());
    let wasStray = true;
    try {
      return await lease(digest, key, async lock => {
        const { isStored, isStray } = await findStored(digest, key);
        wasStray = isStray;
        return await refuseFullDisk(() => work(lock, isStored));
      });
    } catch (error) {
      // Unlinked content that existed before must not be deleted: its record may be lost. If this fails too, gc finds the content.
      if (!wasStray) await deleteUnlinked(digest).catch(() => {});
      throw error;
    }
  };

  const store: HostedStore = {
    content,
    records,
    memory,
    now,
    locks,
    options: { ...DEFAULT_OPTIONS, ...deps.options },
    recentAccess: createRecentAccess(now),
    withLock,
    withLease,
    isNeeded,
    deleteUnlinked,
    deleteAllUnlinked,
    ifNeeded: (digest, work) =>
      locks.withLock(deletionKey(digest), async () => ((await isNeeded(digest)) ? work() : undefined)),
    reasonToKeep,
  };
  return store;
}

/** Each takes a turn in the pool of threads, and of the event loop. */
const DELETED_AT_ONCE = 16;
/** For the deletion of so many in one turn of the event loop. */
const LOCKED_AT_ONCE = 50;

function leaseKey(digest: Digest, id = ''): string {
  return `hosted-content/${digest} ${id}`;
}

/** Sorts before all leases, so that it is never left out of a long list. */
function deletionKey(digest: Digest): string {
  return leaseKey(digest, '!deletion');
}

/** The same records, whose changes fail unless the fence holds. */
function createFencedRecords(store: RecordStore, fence: readonly Expectation[]): RecordStore {
  const write: RecordStore['write'] = (changes, options) =>
    store.write(changes, { ...options, expected: [...(options?.expected ?? []), ...fence] });
  return { ...store, write };
}

const DEFAULT_OPTIONS: HostedOptions = {
  uploadTimeoutMs: 24 * 3600 * 1000,
  keepUploadsAfterMs: 0,
  maxUploads: 1_000,
  sparse: 'indexes',
  deletes: { tags: true, manifests: true, blobs: true },
  isImmutable: () => false,
  quota: { admitUpload() {}, account: (_, _bytes, write) => write({ changes: [], expected: [] }) },
  onChange() {},
};

/** A full disk is the registry's problem, not a faulty push: throws UNAVAILABLE (507) in place of the error that it caused in `work`. */
export async function refuseFullDisk<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!isDiskFull(error)) throw error;
    throw new RegistryError('UNAVAILABLE', 'the disk of the registry is full: nothing was stored or changed', {
      status: 507,
      cause: error,
    });
  }
}

// Recent accesses by clients. A client that was told that something exists relies on it: it pulls the parts, or skips them in a push. In
// memory only, bounded to the latest: an access is not worth a write.

interface RecentAccess {
  /** Notes an access: to be awaited before the record is read for the answer. */
  touch(key: string): Promise<void>;
  /** Whether a client asked for the record after `instant`, ISO 8601 in UTC. */
  isAccessedAfter(key: string, instant: string): boolean;
  /**
   * Runs `removal` of the records that were not accessed after `instant`, if there are any; returns their keys. Concurrent accesses wait for
   * its end, so that no client is told about something that is being removed.
   */
  removeIdle(
    keys: readonly string[],
    instant: string,
    removal: (idle: readonly string[]) => Promise<void>,
  ): Promise<readonly string[]>;
}

export function createRecentAccess(now: () => Date): RecentAccess {
  const accesses = createAccessTimes();
  const removals = new Map<string, Promise<void>>();
  const isAccessedAfter = (key: string, instant: string) => accesses.find(key) > Date.parse(instant);
  return {
    isAccessedAfter,
    async touch(key) {
      accesses.note(key, now().getTime());
      // The remover handles its failure.
      await removals.get(key)?.catch(() => {});
    },
    async removeIdle(keys, instant, removal) {
      const idle = keys.filter(key => !isAccessedAfter(key, instant));
      if (idle.length === 0) return idle;
      const removing = removal(idle);
      for (const key of idle) removals.set(key, removing);
      try {
        await removing;
      } finally {
        for (const key of idle) removals.delete(key);
      }
      return idle;
    },
  };
}

/** As many sets as keep the last 50 000 accesses: that one gets more of them than it has places happens once in many thousand times. */
const SETS = 4096;
const SET_SIZE = 32;

/**
 * The latest accesses, in 1.5 MiB however many there are. A key is known by 44 bits of its hash: one that has them in common with another
 * counts as accessed when that was, and stays a little longer.
 */
function createAccessTimes() {
  const [seed = 0, otherSeed = 0] = randomFillSync(new Uint32Array(2));
  let marks = new Uint32Array(0);
  let times = new Float64Array(0);

  /** Where the key is, or the place of its set that was written the longest ago; and its mark. */
  function locate(key: string): { readonly slot: number; readonly mark: number } {
    const first = (hash(key, otherSeed) % SETS) * SET_SIZE;
    // An empty place has none.
    const mark = hash(key, seed) || 1;
    let oldest = first;
    for (let slot = first; slot < first + SET_SIZE; slot += 1) {
      if (marks[slot] === mark) return { slot, mark };
      if ((times[slot] ?? 0) < (times[oldest] ?? 0)) oldest = slot;
    }
    return { slot: oldest, mark };
  }

  return {
    /** In milliseconds; 0: not that anybody knows. */
    find(key: string): number {
      const { slot, mark } = locate(key);
      return marks[slot] === mark ? (times[slot] ?? 0) : 0;
    },
    note(key: string, time: number): void {
      if (marks.length === 0) {
        marks = new Uint32Array(SETS * SET_SIZE);
        times = new Float64Array(SETS * SET_SIZE);
      }
      const { slot, mark } = locate(key);
      marks[slot] = mark;
      times[slot] = time;
    },
  };
}

/** FNV-1a, with a secret seed to prevent crafted keys that all fall into one set. */
function hash(text: string, seed: number): number {
  let mixed = seed;
  for (let at = 0; at < text.length; at += 1) mixed = Math.imul(mixed ^ text.charCodeAt(at), 0x01000193);
  return (mixed ^ (mixed >>> 15)) >>> 0;
}
