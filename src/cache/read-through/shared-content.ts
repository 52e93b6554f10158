// Content of upstreams that several caches share through a bucket: what one of them has fetched, the others have from there. The bucket
// saves fetches, and nothing more: where it is away, or an object is gone, content is fetched as without it.
import { setTimeout as sleep } from 'node:timers/promises';
import type { ContentStore, VerifiedFile } from '../../content/store.ts';
import { RegistryError } from '../../oci/errors.ts';
import { isTransient, type Locks } from '../../state/store.ts';

interface SharedContentDeps {
  /** Of this machine. */
  readonly cache: ContentStore;
  readonly shared: Pick<ContentStore, 'find' | 'open' | 'read'> & {
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

/** The content of both, as one store. Only the cache is closed with it, and content is only deleted there. */
export function createSharedContent({
  cache,
  shared,
  onFailed,
  waitMs = SHARED_WAIT_MS,
}: SharedContentDeps): ContentStore {
  let awayUntil = Number.NEGATIVE_INFINITY;

  async function unlessAway<T>(work: () => Promise<T>): Promise<T | undefined> {
    if (performance.now() < awayUntil) return undefined;
    try {
      return await work();
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

  function copyElsewhere(file: VerifiedFile): Promise<void> {
    const store = () => shared.store(file);
    return file.size > SMALL_BYTES ? unlessAway(store) : inTime(store);
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

/** Turns of processes at fetching the same content: whoever waited finds what the one before has stored. */
export interface Turns {
  /**
   * Waits for a turn; the function that it returns ends it. After half a minute, and where the records of the turns are away, it goes on
   * without one. Throws the signal's reason.
   */
  take(key: string, signal?: AbortSignal): Promise<() => void>;
}

/** Well under the minute after which proxies and clients give up. A turn whose process has died ends after half of it. */
const WAIT_MS = 30_000;

/** While `isAway`, nobody waits for records that do not answer. */
export function createTurns(
  locks: Pick<Locks, 'withLock'>,
  { waitMs = WAIT_MS, isAway = () => false }: { readonly waitMs?: number; readonly isAway?: () => boolean } = {},
): Turns {
  return {
    async take(key, signal) {
      if (isAway()) return () => {};
      const { promise: over, resolve: end } = Promise.withResolvers<void>();
      const begun = Promise.withResolvers<void>();
      locks
        .withLock(`fetch/${key}`, () => {
          begun.resolve();
          return over;
        })
        .catch(error => (isTransient(error) ? begun.resolve() : begun.reject(error)));
      const left = new AbortController();
      const signals = signal ? [signal, left.signal] : [left.signal];
      try {
        await Promise.race([begun.promise, sleep(waitMs, undefined, { signal: AbortSignal.any(signals) })]);
        return end;
      } catch (error) {
        // A turn that comes later ends at once.
        end();
        throw signal?.aborted ? signal.reason : error;
      } finally {
        left.abort();
      }
    },
  };
}
