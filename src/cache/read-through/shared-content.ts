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
  /** Called when the shared store fails: it is left alone for some seconds. */
  readonly onFailed: (error: RegistryError) => void;
}

/** For so long nobody waits for a store that does not answer. */
const AWAY_MS = 10_000;

/** The content of both, as one store. Only the cache is closed with it, and content is only deleted there. */
export function createSharedContent({ cache, shared, onFailed }: SharedContentDeps): ContentStore {
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

  const copyElsewhere = (file: VerifiedFile) => unlessAway(() => shared.store(file));

  return {
    ...cache,
    find: async digest => (await cache.find(digest)) ?? (await unlessAway(() => shared.find(digest))),
    open: async (digest, range) =>
      (await cache.open(digest, range)) ?? (await unlessAway(() => shared.open(digest, range))),
    read: async (digest, maxBytes) =>
      (await cache.read(digest, maxBytes)) ?? (await unlessAway(() => shared.read(digest, maxBytes))),
    locate: digest => unlessAway(async () => shared.locate?.(digest)),
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
