// Locks by key: of one process, in memory, and of all processes that share records, as leases in these. A lease is a record that expires:
// only compare-and-set is needed of the store, and a write that relies on the lock expects the record, in its own transaction.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import pLimit, { type LimitFunction } from 'p-limit';
import { type Expectation, type Lock, type Locks, RecordConflict, type RecordStore, RecordStoreBusy } from './store.ts';

/** For records that no other process writes. Such a lock cannot be lost, so it needs no fence. */
export function createProcessLocks(): Locks {
  const queues = createQueues();
  return {
    withLock: (key, work) => queues.run(key, () => work(UNFENCED)),
    async withFreeLock(key, work) {
      return queues.has(key) ? undefined : queues.run(key, () => work(UNFENCED));
    },
    isLocked: queues.has,
    listHeld: async prefix => queues.list(prefix),
    areShared: false,
  };
}

/** Of a lock that cannot be lost while its process lives. */
export const UNFENCED: Lock = { fence: [], lost: new AbortController().signal, async confirm() {} };

interface SharedLocksDeps {
  readonly store: Pick<RecordStore, 'write' | 'list'>;
  /** Calls `wake` when the lock of the key is released, as far as that is notified; returns a function that stops watching. */
  readonly watch?: ((key: string, wake: () => void) => () => void) | undefined;
  /** Awaited before work starts under a new lease, so that it reads the writes of earlier holders. */
  readonly catchUp?: (() => Promise<void>) | undefined;
  /** How long a lease that is no longer renewed blocks others. */
  readonly ttlMs?: number;
  /** The longest wait for another process. */
  readonly waitMs?: number;
  /** The interval between attempts without a notification. */
  readonly pollMs?: number;
}

/** The collection of the leases; the key is that of the lock. */
export const LEASES = 'lease';

const TTL_MS = 15_000;
const WAIT_MS = 30_000;
const POLL_MS = 250;
/** How long work of one process, one after the other, may share a lease before other processes get a chance. */
const MAX_HELD_MS = 100;
const CHANCE_MS = 10;
const MAX_LISTED = 1_000;

/** Leases expire by the clock of the store. They are renewed while work is in progress, and expire if their process dies. */
export function createSharedLocks({
  store,
  watch = () => () => {},
  catchUp = async () => {},
  ttlMs = TTL_MS,
  waitMs = WAIT_MS,
  pollMs = POLL_MS,
}: SharedLocksDeps): Locks {
  const queues = createQueues();
  /** Leases for the next work in the queue of their key. */
  const handedOn = new Map<string, Lease>();

  async function tryAcquire(key: string, leaseMs: number): Promise<Lease | undefined> {
    const own = newLease(key);
    const sentAt = performance.now();
    try {
      await put(own, undefined, leaseMs);
      await catchUp();
      return keepRenewing(own, sentAt, leaseMs);
    } catch (error) {
      if (error instanceof RecordConflict) return undefined;
      // The lease may have been written nevertheless.
      void remove(own);
      throw error;
    }
  }

  async function acquire(key: string, leaseMs: number): Promise<Lease> {
    const until = performance.now() + waitMs;
    for (;;) {
      const { promise: released, resolve } = Promise.withResolvers<void>();
      const unwatch = watch(key, resolve);
      try {
        const lease = await tryAcquire(key, leaseMs);
        if (lease) return lease;
        if (performance.now() >= until) throw new RecordStoreBusy(`another process holds the lock ${key}`);
        await Promise.race([released, sleep(pollMs * (0.5 + Math.random()))]);
      } finally {
        unwatch();
      }
    }
  }

  /** Written as it is wherever its value is expected: a fence stays the same however often the lease is renewed. */
  async function put(own: Expectation, before: Uint8Array | undefined, leaseMs: number): Promise<void> {
    const { collection, key, value = new Uint8Array() } = own;
    await store.write([{ kind: 'put', collection, key, value, ttlMs: leaseMs }], {
      expected: [{ collection, key, value: before }],
      isVolatile: true,
    });
  }

  /** Never rejects: a lease that cannot be removed expires. */
  async function remove(own: Expectation): Promise<void> {
    const { collection, key } = own;
    const changes = [{ kind: 'delete', collection, key }] as const;
    await store.write(changes, { expected: [own], isVolatile: true }).catch(() => {});
  }

  function keepRenewing(own: Expectation, sentAt: number, leaseMs: number): Lease {
    const lost = new AbortController();
    let isOver = false;
    let validUntil = sentAt + leaseMs;
    let timer = setTimeout(renew, leaseMs / 3).unref();

    async function extend(): Promise<void> {
      const extendedAt = performance.now();
      await put(own, own.value, leaseMs).catch(error => {
        if (error instanceof RecordConflict) lost.abort();
        throw error;
      });
      validUntil = extendedAt + leaseMs;
    }

    async function confirm(): Promise<void> {
      await extend();
      // After a long pause there is not enough time left.
      if (validUntil - performance.now() < leaseMs / 2) throw new RecordConflict(own);
    }

    async function renew(): Promise<void> {
      let waitMs = leaseMs / 3;
      try {
        await extend();
      } catch {
        // A store that is away for a moment takes no lease, if it is asked again in time.
        if (performance.now() > validUntil) lost.abort();
        waitMs = leaseMs / 16;
      }
      if (!isOver && !lost.signal.aborted) timer = setTimeout(renew, waitMs).unref();
    }

    return {
      lock: { fence: [own], lost: lost.signal, confirm },
      sinceMs: sentAt,
      async release() {
        isOver = true;
        clearTimeout(timer);
        await remove(own);
      },
    };
  }

  async function run<T>(key: string, work: (lock: Lock) => Promise<T>, lease: Lease, othersWait: () => boolean) {
    try {
      return await work(lease.lock);
    } finally {
      const heldMs = performance.now() - lease.sinceMs;
      if (othersWait() && heldMs < MAX_HELD_MS && !lease.lock.lost.aborted) handedOn.set(key, lease);
      else await lease.release();
      if (othersWait() && heldMs >= MAX_HELD_MS) await sleep(CHANCE_MS);
    }
  }

  function takeOver(key: string): Lease | undefined {
    const lease = handedOn.get(key);
    handedOn.delete(key);
    return lease;
  }

  return {
    withLock: (key, work, options) =>
      queues.run(key, async othersWait => {
        const lease = takeOver(key) ?? (await acquire(key, options?.ttlMs ?? ttlMs));
        return run(key, work, lease, othersWait);
      }),
    async withFreeLock(key, work, options) {
      if (queues.has(key)) return undefined;
      return queues.run(key, async othersWait => {
        const lease = await tryAcquire(key, options?.ttlMs ?? ttlMs);
        return lease && run(key, work, lease, othersWait);
      });
    },
    isLocked: queues.has,
    listHeld: prefix => store.list(LEASES, { prefix, limit: MAX_LISTED }),
    areShared: true,
  };
}

interface Lease {
  readonly lock: Lock;
  /** By the monotonic clock of this process. */
  readonly sinceMs: number;
  release(): Promise<void>;
}

/** No two leases are equal, also of one process: what was expected of an earlier one is not true of a later. */
function newLease(key: string): Expectation {
  return { collection: LEASES, key, value: new TextEncoder().encode(JSON.stringify({ holder: randomUUID() })) };
}

/** Work of this process by key, one at a time, first come, first served. */
export function createQueues() {
  const queues = new Map<string, { readonly limit: LimitFunction; users: number }>();
  return {
    has: (key: string) => queues.has(key),
    list: (prefix: string) => [...queues.keys()].filter(key => key.startsWith(prefix)).sort(),
    async run<T>(key: string, work: (othersWait: () => boolean) => Promise<T>): Promise<T> {
      const queue = queues.get(key) ?? { limit: pLimit(1), users: 0 };
      queues.set(key, queue);
      queue.users += 1;
      try {
        return await queue.limit(() => work(() => queue.users > 1));
      } finally {
        queue.users -= 1;
        if (queue.users === 0) queues.delete(key);
      }
    },
  };
}
