// What all parts of the hosted repositories share: content, records, and the one lock that keeps them in step, of all processes that share the records.
import { randomFillSync, randomUUID } from 'node:crypto';
import { isDiskFull } from '../content/free-space.ts';
import type { ContentStore } from '../content/store.ts';
import type { Memory } from '../memory.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { LEASES } from '../state/locks.ts';
import type { Change, Expectation, Lock, Locks, RecordStore } from '../state/store.ts';
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
   * Runs work exclusively that changes records or deletes content, together with the reads that it depends on. Must not wait for a client
   * or move many bytes, and must not be nested. Writes of `records` inside fail once the lock is lost, or `lease` is, of content that is
   * linked.
   */
  withLock<T>(work: () => Promise<T>, lease?: Lock): Promise<T>;
  /**
   * Runs `work`, which stores content of `digest` and then links it: in between, the content counts as needed. If `work` throws, content
   * that it left unlinked is deleted, unless it existed before. Must not be called inside `withLock`; the lease is to be given to it.
   */
  withLease<T>(digest: Digest, work: (lease: Lock | undefined) => Promise<T>): Promise<T>;
  /** Whether a repository links the content, or it is leased. Inside `withLock`. */
  isNeeded(digest: Digest): Promise<boolean>;
  /** Deletes content that is not needed, unless the records may be incomplete. Inside `withLock`. */
  deleteUnlinked(digest: Digest): Promise<void>;
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
  /** Called with each change once it is durable, in order, and awaited before the change is acknowledged. Must not fail. */
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
   * Called, one at a time, when `repository` is about to link new content, or to unlink it: then `bytes` is negative. Throws RegistryError
   * to refuse. The returned changes are written together with the links.
   */
  account(repository: string, digest: Digest, bytes: number): Promise<readonly Change[]>;
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
  let held: Lock | undefined;
  const records = createHostedRecords(createFencedRecords(deps.records, () => held?.fence ?? []));
  /** By this process. */
  const leases = new Map<Digest, number>();
  /** In progress. */
  const deletions = new Map<Digest, Promise<void>>();

  const withLock: HostedStore['withLock'] = (work, lease) =>
    refuseFullDisk(() =>
      locks.withLock(HOSTED_LOCK, async lock => {
        held = lease ? { ...lock, fence: [...lock.fence, ...lease.fence] } : lock;
        try {
          return await work();
        } finally {
          held = undefined;
        }
      }),
    );

  const isNeeded = (digest: Digest) => isNeededBesides(digest, undefined);

  /** `own`: the key of a lease that does not count. */
  async function isNeededBesides(digest: Digest, own: string | undefined): Promise<boolean> {
    if ((leases.get(digest) ?? 0) > (own === undefined ? 0 : 1)) return true;
    if ((await records.holders.list({ prefix: holdersKey(digest), limit: 1 })).length > 0) return true;
    if (!locks.areShared) return false;
    const others = await deps.records.list(LEASES, { prefix: leaseKey(digest), limit: 2 });
    return others.some(key => key !== own);
  }

  /** Registered before the leases are looked at, and leases are counted before this is: one of the two sees the other. */
  async function deleteUnlinked(digest: Digest): Promise<void> {
    const deleting = deleteUnleased(digest);
    deletions.set(digest, deleting);
    await deleting.finally(() => deletions.delete(digest));
  }

  async function deleteUnleased(digest: Digest): Promise<void> {
    if (reasonToKeep() !== undefined || (await isNeeded(digest))) return;
    await held?.confirm();
    await content.delete(digest);
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

  async function withLease<T>(digest: Digest, work: (lease: Lock | undefined) => Promise<T>): Promise<T> {
    const key = leaseKey(digest, randomUUID());
    let wasStray = true;
    try {
      return await lease(digest, key, async lock => {
        const isStray = async () => !(await isNeededBesides(digest, key)) && (await content.find(digest)) !== undefined;
        // A deletion of this very content may be in progress, and would remove what is stored now.
        await deletions.get(digest)?.catch(() => {});
        wasStray = await (locks.areShared ? withLock(isStray) : isStray());
        return await refuseFullDisk(() => work(lock));
      });
    } catch (error) {
      // Unlinked content that existed before must not be deleted: its record may be lost. If this fails too, gc finds the content.
      if (!wasStray) await withLock(() => deleteUnlinked(digest)).catch(() => {});
      throw error;
    }
  }

  return {
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
    reasonToKeep,
  };
}

/** Of everything that is linked, in all repositories. */
export const HOSTED_LOCK = 'hosted';

function leaseKey(digest: Digest, id = ''): string {
  return `hosted-content/${digest} ${id}`;
}

/** The same records, whose changes fail unless the fence holds. */
function createFencedRecords(store: RecordStore, findFence: () => readonly Expectation[]): RecordStore {
  const write: RecordStore['write'] = (changes, options) => {
    const fence = findFence();
    if (fence.length === 0) return store.write(changes, options);
    return store.write(changes, { ...options, expected: [...(options?.expected ?? []), ...fence] });
  };
  return { ...store, write };
}

const DEFAULT_OPTIONS: HostedOptions = {
  uploadTimeoutMs: 24 * 3600 * 1000,
  keepUploadsAfterMs: 0,
  maxUploads: 1_000,
  sparse: 'indexes',
  deletes: { tags: true, manifests: true, blobs: true },
  isImmutable: () => false,
  quota: { admitUpload() {}, account: async () => [] },
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
   * Runs `removal` unless the record was accessed after `instant`; returns whether it ran. Concurrent accesses wait for its end, so that no
   * client is told about something that is being removed.
   */
  removeIfIdle(key: string, instant: string, removal: () => Promise<void>): Promise<boolean>;
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
    async removeIfIdle(key, instant, removal) {
      if (isAccessedAfter(key, instant)) return false;
      const removing = removal();
      removals.set(key, removing);
      try {
        await removing;
      } finally {
        removals.delete(key);
      }
      return true;
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
