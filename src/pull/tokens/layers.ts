// Layers that came with requests: content by digest, each stored for as long as a token may need it, within a total quota and one per
// caller. Layers that an older version stored in records are read until they expire.
import { setImmediate } from 'node:timers/promises';
import { z } from 'zod';
import type { DiskStore, DiskStoreOptions } from '../../content/disk.ts';
import { createFreeSpace, isDiskFull } from '../../content/free-space.ts';
import { type ListedStore, openListedDisk } from '../../content/inventory.ts';
import { type Digest, isDigest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { ContentMismatch, verifyBytes } from '../../oci/verify.ts';
import { createCollection } from '../../state/collection.ts';
import { type Lock, pagesOf, type RecordStore } from '../../state/store.ts';

export interface TokenLayers extends Pick<DiskStore, 'find' | 'open' | 'delete' | 'verify'> {
  /**
   * Stores a layer at least until then, on the account of a caller unless it is already stored; a longer existing expiry wins. Durable when
   * it resolves. Throws ContentMismatch for bytes of another digest; UNAVAILABLE (507) where the disk or the total quota is full,
   * TOOMANYREQUESTS where the caller's is.
   */
  store(bytes: Uint8Array, digest: Digest, lease: Lease): Promise<void>;
  /** Throws UNAVAILABLE (507) where the disk has only space for essential writes. */
  requireSpace(): Promise<void>;
  /** Removes what has expired. */
  sweep(): Promise<void>;
  close(): Promise<void>;
}

interface Lease {
  readonly until: Date;
  readonly account: string;
}

export interface LayerQuota {
  readonly maxBytes: number;
  readonly maxBytesPerAccount: number;
}

const leaseSchema = z.object({ until: z.iso.datetime(), account: z.string(), bytes: z.number() });

type LeaseRecord = z.infer<typeof leaseSchema>;

/** The format of an older version: 8 bytes of expiry, milliseconds as a double, and then the layer. */
const OLD = 'layer';
const OLD_HEADER_BYTES = 8;
/** The minimum size of a file on disk. */
const MIN_BYTES = 4096;
/** Content of more than 4 MiB leaves the reserve for essential writes alone, and layers do so whatever their size. */
const LARGE_BYTES = 4 * 1024 * 1024 + 1;
const PAGE = 200;
/** How long a file without a record is retained: its record may be about to be written, or lost and restored. */
const ORPHAN_MS = 24 * 3_600_000;
/** The interval between sweeps. */
const RETRY_AFTER_SECONDS = 600;

/** Files that a crash left without a record are removed by a sweep, a day later. */
export async function createTokenLayers(
  deps: Pick<DiskStoreOptions, 'memory' | 'onDamaged'> & {
    /** What is on its way in needs space here. */
    readonly directory: string;
    /** Where the layers are. Default: on disk, in the directory. */
    readonly stored?: ListedStore | undefined;
    readonly records: RecordStore;
    readonly now: () => Date;
    /** As in LeasedStoreDeps. */
    readonly mayDelete?: (() => boolean) | undefined;
    readonly quota: LayerQuota;
  },
): Promise<TokenLayers> {
  const { directory, records, now, mayDelete = () => true, quota, memory, onDamaged } = deps;
  const { content, inventory } = deps.stored ?? (await openListedDisk({ directory, memory, onDamaged }));
  const claimSpace = createFreeSpace(directory);
  const leases = createCollection({ store: records, name: 'token-layer', schema: leaseSchema });
  // One at a time for each layer: two concurrent calls could otherwise both read the old expiry, and a sweep remove what was just stored.
  const lockOf = (digest: string) => `token-layer/${digest}`;
  const used = createAccounts();
  await recount();
  let hasOrphans = true;

  /** Other processes may have stored and removed some. */
  async function recount(): Promise<void> {
    const found: LeaseRecord[] = [];
    for await (const { value } of listLeases()) found.push(value);
    used.clear();
    for (const { account, bytes } of found) used.add(account, bytes);
  }

  async function* listLeases() {
    for await (const page of pagesOf(leases.entries, { limit: PAGE })) {
      yield* page;
      await setImmediate();
    }
  }

  const hasExpired = ({ until }: Pick<LeaseRecord, 'until'>) => Date.parse(until) <= now().getTime();

  async function storeOne(bytes: Uint8Array, digest: Digest, lease: Lease, lock: Lock): Promise<void> {
    const record = await leases.find(digest);
    const end = Math.max(record ? Date.parse(record.until) : 0, lease.until.getTime());
    const until = new Date(end).toISOString();
    if (record && (await content.find(digest))) {
      if (until !== record.until) await put(digest, { ...record, until }, lock);
      return;
    }
    // The disk may have lost it.
    if (record) await forget(digest, record, lock);
    const { account } = lease;
    const size = Math.max(bytes.byteLength, MIN_BYTES);
    reserve(account, size);
    try {
      await requireSpace(size);
      await storeNew(bytes, digest, { record: { until, account, bytes: size }, lock });
    } catch (error) {
      used.add(account, -size);
      throw error;
    }
  }

  /** Together, which is one wait for the disk: whoever finds a lease of what a crash has lost stores it again. */
  async function storeNew(
    bytes: Uint8Array,
    digest: Digest,
    { record, lock }: { readonly record: LeaseRecord; readonly lock: Lock },
  ): Promise<void> {
    const { done } = content.ingest(ReadableStream.from([bytes]), { digest, size: bytes.byteLength });
    const [stored, leased] = await Promise.allSettled([done, put(digest, record, lock)]);
    if (leased.status === 'rejected') throw leased.reason;
    if (stored.status === 'fulfilled') return;
    await records.write([leases.deleting(digest)], { makesRoom: true, expected: lock.fence });
    throw stored.reason;
  }

  async function put(digest: Digest, record: LeaseRecord, { fence: expected }: Lock): Promise<void> {
    await records.write([leases.putting(digest, record)], { expected });
  }

  async function forget(digest: Digest, { account, bytes }: LeaseRecord, lock: Lock): Promise<void> {
    await records.write([leases.deleting(digest)], { makesRoom: true, expected: lock.fence });
    await lock.confirm();
    await content.delete(digest);
    used.add(account, -bytes);
  }

  function reserve(account: string, size: number): void {
    const { maxBytes, maxBytesPerAccount } = quota;
    if (used.all() + size > maxBytes)
      throw full(`the layers of all requests are limited to ${maxBytes} bytes (tokens.layers.maxSize)`);
    const own = used.of(account);
    if (own + size > maxBytesPerAccount) {
      const reason = `with this layer, the layers of the caller would have ${own + size} bytes of the ${maxBytesPerAccount} allowed`;
      throw new RegistryError(
        'TOOMANYREQUESTS',
        `${reason} (tokens.layers.maxSizePerCaller): they are removed when their tokens expire`,
        {
          retryAfterSeconds: RETRY_AFTER_SECONDS,
        },
      );
    }
    used.add(account, size);
  }

  async function requireSpace(bytes: number): Promise<void> {
    const claim = claimSpace(Math.max(bytes, LARGE_BYTES));
    try {
      await refuseFullDisk(claim.ensure());
    } finally {
      claim.release();
    }
  }

  async function removeExpired(key: string, lock: Lock): Promise<void> {
    const record = await leases.find(key);
    if (record && hasExpired(record) && isDigest(key) && mayDelete()) await forget(key, record, lock);
  }

  /** Whether it is currently retained. */
  async function removeOrphan(digest: Digest, lock: Lock): Promise<boolean> {
    if (await leases.has(digest)) return false;
    const storedAt = await inventory.findStoredAt(digest);
    if ((storedAt && storedAt.getTime() + ORPHAN_MS > now().getTime()) || !mayDelete()) return true;
    await lock.confirm();
    await content.delete(digest);
    return false;
  }

  async function findOld(digest: Digest): Promise<Uint8Array | undefined> {
    const stored = await records.get(OLD, digest);
    if (!stored) return undefined;
    const expiresAtMs = new DataView(stored.buffer, stored.byteOffset).getFloat64(0);
    const bytes = stored.subarray(OLD_HEADER_BYTES);
    return now().getTime() < expiresAtMs && isIntact(bytes, digest) ? bytes : undefined;
  }

  async function isLeased(digest: Digest): Promise<boolean> {
    const record = await leases.get(digest);
    return record !== undefined && !hasExpired(record);
  }

  return {
    async find(digest) {
      const found = (await isLeased(digest)) ? await content.find(digest) : undefined;
      const old = found ? undefined : await findOld(digest);
      return found ?? (old && { size: old.byteLength });
    },
    async open(digest, range) {
      const body = (await isLeased(digest)) ? await content.open(digest, range) : undefined;
      const old = body ? undefined : await findOld(digest);
      return body ?? (old && ReadableStream.from([range ? old.subarray(range.start, range.end + 1) : old]));
    },
    delete: content.delete,
    verify: content.verify,
    store: (bytes, digest, lease) =>
      records.locks.withLock(lockOf(digest), lock => refuseFullDisk(storeOne(bytes, digest, lease, lock))),
    requireSpace: () => requireSpace(0),
    async sweep() {
      if (records.locks.areShared) await recount();
      for await (const { key, value } of listLeases())
        if (hasExpired(value)) await records.locks.withLock(lockOf(key), lock => removeExpired(key, lock));
      if (!hasOrphans) return;
      let areLeft = false;
      for await (const digest of inventory.list()) {
        if (await records.locks.withLock(lockOf(digest), lock => removeOrphan(digest, lock))) areLeft = true;
      }
      hasOrphans = areLeft;
    },
    close: content.close,
  };
}

/** Bytes by account, and in total. */
function createAccounts() {
  const bytes = new Map<string, number>();
  let total = 0;
  return {
    all: () => total,
    clear(): void {
      bytes.clear();
      total = 0;
    },
    of: (account: string) => bytes.get(account) ?? 0,
    add(account: string, change: number): void {
      total += change;
      const left = (bytes.get(account) ?? 0) + change;
      if (left > 0) bytes.set(account, left);
      else bytes.delete(account);
    },
  };
}

function isIntact(bytes: Uint8Array, digest: Digest): boolean {
  try {
    verifyBytes(bytes, { digest });
    return true;
  } catch (error) {
    if (error instanceof ContentMismatch) return false;
    throw error;
  }
}

/** Throws UNAVAILABLE (507) in place of the error of a full disk. */
export async function refuseFullDisk<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw isDiskFull(error) ? full('its disk is full', error) : error;
  }
}

function full(reason: string, cause?: unknown): RegistryError {
  return new RegistryError('UNAVAILABLE', `no space for another token and its layers: ${reason}`, {
    status: 507,
    cause,
  });
}
