// Content in a bucket, with the cache of this machine in front: what is not cached comes from the bucket in one transfer, which all
// concurrent readers follow while it fills the cache. Only content of the bucket counts as stored; cached content may be evicted at any
// time.
import { stat } from 'node:fs/promises';
import { LRUCache } from 'lru-cache';
import { type Bucket, MAX_COPY_BYTES } from '../../content/bucket.ts';
import type { DiskStore } from '../../content/disk.ts';
import { bucketKey, createBucketInventory, type Inventory } from '../../content/inventory.ts';
import {
  type ContentStore,
  ContentTooLarge,
  type Ingestion,
  StorageFailure,
  type VerifiedFile,
} from '../../content/store.ts';
import type { Damage } from '../../content/verification.ts';
import type { Memory } from '../../memory.ts';
import type { ByteRange } from '../../oci/bytes.ts';
import { type Digest, digestOf } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { ContentMismatch, createVerifier } from '../../oci/verify.ts';
import type { CountedStore } from '../eviction/counted-store.ts';
import { readBlob } from './cached.ts';
import { createTransfers } from './transfers.ts';

export interface BucketStore extends ContentStore, Pick<DiskStore, 'verify'> {
  /** Turns a verified and synced file into content. If it throws, the file still exists. */
  commit(path: string, digest: Digest): Promise<void>;
  /** Stores the bytes of a verified file in the bucket alone. */
  store(file: VerifiedFile): Promise<void>;
  readonly inventory: Inventory;
  /** Objects that are not content yet: `<folder>/uploads/<name>`. Sealed files, of which the cache has a copy. */
  readonly parts: BucketParts;
}

interface BucketParts {
  /** Stores a verified and synced file, which is moved. */
  put(name: string, file: VerifiedFile): Promise<void>;
  /** The bytes of an object with this digest; undefined where it is absent. The caller reads the stream to its end or cancels it. */
  open(name: string, digest: Digest): Promise<ReadableStream<Uint8Array> | undefined>;
  /** Makes content of an object with this digest within the service. Returns false where that cannot be done. */
  promote(name: string, content: Omit<VerifiedFile, 'path'>): Promise<boolean>;
  delete(name: string): Promise<void>;
  /** Those whose names begin so. */
  list(prefix: string): AsyncIterable<{ readonly name: string; readonly storedAt: Date }>;
}

interface BucketStoreDeps {
  readonly bucket: Bucket;
  /** In the bucket: `<folder>/blobs/<algorithm>/<2 hex>/<hex>`, as on disk. */
  readonly folder: string;
  readonly cache: ContentStore & Pick<CountedStore, 'adopt'>;
  readonly memory: Pick<Memory, 'openCache'>;
  /** Called before content is stored: it has to stay from then on. Default: nobody else removes any. */
  readonly hold?: ((digest: Digest) => Promise<void>) | undefined;
  /** Default: only this store knows what it has found. */
  readonly damages?: Damages | undefined;
  /** Called with content of the bucket whose bytes do not match its digest. It stays there, and counts as missing until it is replaced. */
  readonly onDamaged: (damage: Damage) => void;
  /** Called for each transfer from the bucket that broke. */
  readonly onFailed: (digest: Digest, error: unknown) => void;
}

/** Content that is known to be damaged until it is replaced. */
export interface Damages {
  has(digest: Digest): Promise<boolean>;
  add(digest: Digest): Promise<void>;
  remove(digest: Digest): Promise<void>;
}

/** How long the existence of content is cached, in case others delete objects. */
const KNOWN_MS = 600_000;
const MAX_DAMAGED = 1_000;

/** Neither the bucket nor the cache is closed with it. */
export function createBucketStore({ bucket, folder, cache, memory, ...hooks }: BucketStoreDeps): BucketStore {
  const { damages = createDamages(), hold = async () => {} } = hooks;
  const known = memory.openCache<{ readonly size: number; readonly until: number }>();
  const transfers = createTransfers({ content: cache, onFailed: (digest, error) => void noteFailed(digest, error) });
  const verifying = new Set<Digest>();
  const keyOf = (digest: Digest) => bucketKey(folder, digest);
  const uploads = `${folder}/uploads/`;

  async function find(digest: Digest): Promise<{ readonly size: number } | undefined> {
    const before = known.get(digest);
    if (before && before.until > performance.now()) return { size: before.size };
    if (await damages.has(digest)) return undefined;
    const found = await bucket.find(keyOf(digest)).catch(error => {
      // Only Veneer deletes objects, so cached content can be served while the service is unavailable.
      if (before) return before;
      throw error;
    });
    if (!found) known.delete(digest);
    else if (found !== before) noteStored(digest, found.size);
    return found && { size: found.size };
  }

  function noteStored(digest: Digest, size: number): void {
    known.set(digest, { size, until: performance.now() + KNOWN_MS });
  }

  /** Never rejects. The bytes may also have changed in transit. */
  async function noteFailed(digest: Digest, error: unknown): Promise<void> {
    hooks.onFailed(digest, error);
    if (!(error instanceof ContentMismatch) || verifying.has(digest)) return;
    // Where the disk takes nothing, each reader has a transfer of its own.
    verifying.add(digest);
    if (!(await damages.has(digest).catch(() => false))) await verify(digest).catch(() => {});
    verifying.delete(digest);
  }

  const verify: DiskStore['verify'] = async (digest, options) => {
    const verified = await readWhole(digest, options);
    if (!verified || verified.isIntact) return verified;
    known.delete(digest);
    const reason = 'the object in the bucket has other bytes than its digest says';
    hooks.onDamaged({ digest, size: verified.size, reason, setAside: undefined });
    await damages.add(digest);
    return verified;
  };

  const readWhole: DiskStore['verify'] = async (digest, { limitRate, signal } = {}) => {
    const opened = await bucket.open(keyOf(digest), undefined, signal);
    if (!opened) return undefined;
    const { size } = opened;
    const verifier = createVerifier({ digest, size });
    try {
      for await (const chunk of opened.body) {
        signal?.throwIfAborted();
        verifier.update(chunk);
        await limitRate?.(chunk.byteLength);
      }
      verifier.finish();
      return { size, isIntact: true };
    } catch (error) {
      if (!(error instanceof ContentMismatch)) throw error;
      return { size, isIntact: false };
    }
  };

  async function store({ path, digest, size }: VerifiedFile): Promise<void> {
    await hold(digest);
    const isReplaced = await damages.has(digest);
    await bucket.put(keyOf(digest), { path, digest, size }, { isReplaced });
    if (isReplaced) await damages.remove(digest);
    noteStored(digest, size);
  }

  /** Throws ObjectAbsent. */
  async function openObject(digest: Digest, range?: ByteRange, signal?: AbortSignal) {
    const opened = await bucket.open(keyOf(digest), range, signal);
    if (!opened) throw new ObjectAbsent(digest);
    return opened;
  }

  async function fetch(digest: Digest) {
    if (await damages.has(digest)) return undefined;
    try {
      return await transfers.join({
        key: digest,
        digest,
        openBody: signal => openObject(digest, undefined, signal),
        openPart: async (range, signal) => (await openObject(digest, range, signal)).body,
      });
    } catch (error) {
      if (!(error instanceof ObjectAbsent)) throw error;
      known.delete(digest);
      return undefined;
    }
  }

  const ingest: ContentStore['ingest'] = (body, expected, options) =>
    unwrapFailures(cache.ingest(body, expected, { ...options, storeElsewhere: store }));

  return {
    find,
    verify,
    store,
    ingest,
    async open(digest, range) {
      const cached = await cache.open(digest, range);
      if (cached) return cached;
      const blob = await fetch(digest);
      const last = (blob?.size ?? Number.POSITIVE_INFINITY) - 1;
      return blob?.open(range && { start: range.start, end: Math.min(range.end, last) });
    },
    async read(digest, maxBytes) {
      const cached = await cache.read(digest, maxBytes);
      const found = cached ? undefined : await find(digest);
      if (!found) return cached;
      if (found.size > maxBytes) throw new ContentTooLarge(`${found.size} bytes are stored, more than ${maxBytes}`);
      const blob = await fetch(digest);
      return blob && readBlob(blob, maxBytes).catch(absentIfDamaged);
    },
    put: async (bytes, algorithm) =>
      (await ingest(ReadableStream.from([bytes]), { digest: digestOf(bytes, algorithm) }).done).digest,
    async delete(digest) {
      await bucket.delete(keyOf(digest));
      known.delete(digest);
      if (await damages.has(digest)) await damages.remove(digest);
      await cache.delete(digest);
    },
    async commit(path, digest) {
      const { size } = await stat(path);
      await store({ path, digest, size });
      await cache.adopt({ path, digest, size });
    },
    async locate(digest) {
      // Asked anew: nobody is there to fetch it when the client does not find it.
      const isStored = !(await damages.has(digest)) && (await bucket.find(keyOf(digest)));
      return isStored ? bucket.locate(keyOf(digest)) : undefined;
    },
    inventory: createBucketInventory(bucket, folder),
    parts: {
      async put(name, file) {
        await bucket.put(uploads + name, file, { isReplaced: true });
        await cache.adopt(file);
      },
      open: async (name, digest) => (await cache.open(digest)) ?? (await bucket.open(uploads + name))?.body,
      async promote(name, { digest, size }) {
        if (size > MAX_COPY_BYTES) return false;
        const isReplaced = await damages.has(digest);
        const stored = isReplaced ? undefined : await bucket.find(keyOf(digest));
        if (stored?.size !== size && !(await bucket.copy(uploads + name, keyOf(digest)))) return false;
        if (isReplaced) await damages.remove(digest);
        noteStored(digest, size);
        return true;
      },
      delete: name => bucket.delete(uploads + name),
      async *list(prefix) {
        for await (const { key, storedAt } of bucket.list(uploads + prefix))
          yield { name: key.slice(uploads.length), storedAt };
      },
    },
    async close() {},
  };
}

function createDamages(): Damages {
  const damaged = new LRUCache<Digest, true>({ max: MAX_DAMAGED });
  return {
    has: async digest => damaged.has(digest),
    add: async digest => void damaged.set(digest, true),
    remove: async digest => void damaged.delete(digest),
  };
}

/** The object does not exist, or no longer. */
class ObjectAbsent extends RegistryError {
  constructor(digest: Digest) {
    super('BLOB_UNKNOWN', `the content ${digest} is not stored any more`);
  }
}

/** The failure of the bucket, in place of that of the store that was to have the bytes as well. */
function unwrapFailures(ingestion: Ingestion): Ingestion {
  const done = ingestion.done.catch(error => {
    throw error instanceof StorageFailure && error.cause instanceof RegistryError ? error.cause : error;
  });
  done.catch(() => {});
  return {
    begun: ingestion.begun,
    done,
    get received() {
      return ingestion.received;
    },
    open: ingestion.open,
  };
}

function absentIfDamaged(error: unknown): undefined {
  if (!(error instanceof ContentMismatch)) throw error;
}
