// Content of upstreams that several caches share through a bucket: what one of them has fetched, the others have from there. The bucket
// saves fetches, and nothing more: where it is away, or an object is gone, content is fetched as without it.
import type { ContentStore, VerifiedFile } from '../../content/store.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';

interface SharedContentDeps {
  /** Of this machine. */
  readonly cache: ContentStore;
  readonly shared: Pick<ContentStore, 'find' | 'open' | 'read' | 'ingest'> & {
    readonly locate?: ContentStore['locate'];
    /** Stores a verified file as well: it stays where it is. */
    store(file: VerifiedFile): Promise<void>;
  };
  /** Called when the shared store fails, or is silent: it is left alone for some seconds. */
  readonly onFailed: (error: RegistryError) => void;
  /** How long a client waits for it. */
  readonly waitMs?: number;
}

const SHARED_WAIT_MS = 5_000;
/** Clients wait for the copy of content up to this size, such as a manifest: they may ask another process for it next. */
const SMALL_BYTES = 1024 * 1024;

/** How long a store that did not answer is left alone. */
const AWAY_MS = 10_000;
/** How much of what was cached meanwhile is copied later. */
const MAX_MISSED = 1_000;
/** How often that is tried: a store may refuse this content alone, and counts as away each time. */
const MAX_COPIES = 3;

interface Missed {
  readonly size: number;
  /** How many copies of it have failed. */
  readonly copies: number;
}

/** The content of both, as one store. Only the cache is closed with it, and content is only deleted there. */
export function createSharedContent({
  cache,
  shared,
  onFailed,
  waitMs = SHARED_WAIT_MS,
}: SharedContentDeps): ContentStore {
  let awayUntil = Number.NEGATIVE_INFINITY;
  /** Content of the cache that the shared store did not get. */
  const missed = new Map<Digest, Missed>();
  let isCopying = false;

  async function unlessAway<T>(work: () => Promise<T>): Promise<T | undefined> {
    if (performance.now() < awayUntil) return undefined;
    try {
      const result = await work();
      if (missed.size > 0) void copyMissed();
      return result;
    } catch (error) {
      if (!(error instanceof RegistryError)) throw error;
      awayUntil = performance.now() + AWAY_MS;
      onFailed(error);
      return undefined;
    }
  }

  /** `onLate` is called with what came too late. */
  async function inTime<T>(work: () => Promise<T>, onLate: (late: T) => unknown = () => {}): Promise<T | undefined> {
    let isLate = false;
    const timer = Promise.withResolvers<never>();
    const running = setTimeout(() => {
      isLate = true;
      timer.reject(new RegistryError('UNAVAILABLE', 'the shared store is silent', { status: 503 }));
    }, waitMs);
    const found = unlessAway(() => {
      const result = work();
      result.then(found => isLate && onLate(found)).catch(() => {});
      return Promise.race([result, timer.promise]);
    });
    return found.finally(() => clearTimeout(running));
  }

  async function copyElsewhere(file: VerifiedFile): Promise<void> {
    const store = () => shared.store(file).then(() => true);
    const isStored = await (file.size > SMALL_BYTES ? unlessAway(store) : inTime(store));
    if (!isStored && missed.size < MAX_MISSED) missed.set(file.digest, { size: file.size, copies: 0 });
  }

  /** Until the store is away again. Never rejects: what others ask for until then is fetched once more, and copied. */
  async function copyMissed(): Promise<void> {
    if (isCopying) return;
    isCopying = true;
    for (const [digest, { size, copies }] of missed) {
      const isDone = await unlessAway(() => copyCached(digest, size)).catch(() => true);
      missed.delete(digest);
      if (isDone) continue;
      // Behind the others, which may be taken.
      if (copies + 1 < MAX_COPIES) missed.set(digest, { size, copies: copies + 1 });
      break;
    }
    isCopying = false;
  }

  async function copyCached(digest: Digest, size: number): Promise<true> {
    // It may have been evicted.
    const cached = await cache.open(digest);
    if (cached) await shared.ingest(cached, { digest, size }).done;
    return true;
  }

  return {
    ...cache,
    find: async digest => (await cache.find(digest)) ?? (await inTime(() => shared.find(digest))),
    open: async (digest, range) =>
      (await cache.open(digest, range)) ??
      (await inTime(
        () => shared.open(digest, range),
        late => late?.cancel().catch(() => {}),
      )),
    read: async (digest, maxBytes) =>
      (await cache.read(digest, maxBytes)) ?? (await inTime(() => shared.read(digest, maxBytes))),
    locate: digest => inTime(async () => shared.locate?.(digest)),
    ingest: (body, expected, options) => cache.ingest(body, expected, { ...options, copyElsewhere }),
  };
}
