// Blobs of upstream repositories: cached ones from the store, others from one transfer that all concurrent requests follow while it grows.
import type { Digest } from '../../oci/digest.ts';
import type { CallOptions } from '../../upstream/upstream.ts';
import { type Blob, cachedBlob, readCached } from './cached.ts';
import { isStillAccessible, type Link, type Links, repositoryKey, type UpstreamRepository } from './links.ts';
import type { Lookup } from './manifests.ts';
import type { Turns } from './single-flight.ts';
import { createTransfers, type TransfersDeps } from './transfers.ts';

export interface Blobs {
  /** Only checks existence: starts no transfer. Throws the upstream's error. */
  head(origin: UpstreamRepository, digest: Digest): Promise<{ readonly size: number | undefined }>;
  /**
   * Starts or joins a transfer unless the blob is cached. Throws the upstream's error, or the signal's reason: if all callers leave before
   * it begins, it does not start.
   */
  get(origin: UpstreamRepository, digest: Digest, options?: CallOptions): Promise<Blob>;
  /** All bytes of a cached blob, verified; undefined where it is not cached, or larger than `maxBytes`. */
  readCached(origin: UpstreamRepository, digest: Digest, maxBytes: number): Promise<Uint8Array | undefined>;
}

interface TransferOptions extends CallOptions {
  /** Of a previously cached blob, for an upstream that does not report it. */
  readonly knownSize?: number;
  /** Whether it could not be opened although others have stored it. */
  readonly isGone?: boolean;
}

interface BlobsDeps extends TransfersDeps {
  readonly links: Links;
  /** Where other processes share the content: only one of them fetches a blob at a time. */
  readonly turns?: Turns | undefined;
  /** Called for each blob that is read. */
  readonly onLookup?: ((result: Lookup) => void) | undefined;
}

export function createBlobs({ links, turns, onLookup = () => {}, ...deps }: BlobsDeps): Blobs {
  const { content } = deps;
  const transfers = createTransfers(deps);

  async function findCached(
    origin: UpstreamRepository,
    digest: Digest,
  ): Promise<{ readonly size: number } | undefined> {
    const link = await links.find(origin, digest);
    if (link) return findLinked(digest, link);
    const earlier = links.findEarlier(origin, digest);
    const cached = earlier && (await findLinked(digest, earlier));
    const { upstream, repository } = origin;
    if (!cached || !(await isStillAccessible(() => upstream.headBlob(repository, digest)))) return undefined;
    await links.add(origin, digest, earlier);
    return cached;
  }

  async function findLinked(digest: Digest, { size }: Link): Promise<{ readonly size: number } | undefined> {
    const cached = await content.find(digest);
    if (!cached || cached.size === size) return cached;
    // The link has the verified size: the content was damaged on disk.
    await content.delete(digest);
    return undefined;
  }

  /** What another process has stored while this one waited for its turn needs no transfer. */
  async function takeTurn({ take }: Turns, origin: UpstreamRepository, digest: Digest, signal: AbortSignal) {
    const end = await take(transferKey(origin, digest), signal);
    try {
      const link = await links.find(origin, digest);
      const stored = link && (await findLinked(digest, link));
      if (!stored) return { stored, end };
      const refetch = () => transfer(origin, digest, { knownSize: stored.size, isGone: true });
      return { stored: cachedBlob(content, { digest, size: stored.size, refetch }), end };
    } catch (error) {
      end();
      throw error;
    }
  }

  function transfer(
    origin: UpstreamRepository,
    digest: Digest,
    { knownSize, isGone = false, signal }: TransferOptions = {},
  ): Promise<Blob> {
    let isOwn = false;
    const joined = transfers.join({
      key: transferKey(origin, digest),
      digest,
      signal,
      async openBody(stop) {
        isOwn = true;
        const { body, size = knownSize } = await origin.upstream.openBlob(origin.repository, digest, { signal: stop });
        return { body, size };
      },
      openPart: async (range, stop) =>
        (await origin.upstream.openBlob(origin.repository, digest, { range, signal: stop })).body,
      takeTurn: turns && !isGone ? stop => takeTurn(turns, origin, digest, stop) : undefined,
      onStored: size => links.add(origin, digest, { size }),
    });
    return joined.finally(() => onLookup(isOwn ? 'miss' : 'coalesced'));
  }

  return {
    async head(origin, digest) {
      const growing = transfers.find(transferKey(origin, digest));
      if (growing?.size !== undefined) return { size: growing.size };
      return (await findCached(origin, digest)) ?? origin.upstream.headBlob(origin.repository, digest);
    },
    async get(origin, digest, options) {
      // Checked first: its reader may have all bytes before any record mentions them.
      const growing = transfers.find(transferKey(origin, digest));
      if (growing) {
        onLookup('coalesced');
        return growing;
      }
      const cached = await findCached(origin, digest);
      if (!cached) return transfer(origin, digest, options);
      onLookup('hit');
      const { size } = cached;
      const refetch = () => transfer(origin, digest, { ...options, knownSize: size });
      return cachedBlob(content, { digest, size, refetch });
    },
    async readCached(origin, digest, maxBytes) {
      const link = await links.find(origin, digest);
      return link && link.size <= maxBytes ? readCached(content, digest, maxBytes) : undefined;
    },
  };
}

/** A transfer is never shared between clients' scopes or repositories. */
function transferKey(origin: UpstreamRepository, digest: Digest): string {
  return `${repositoryKey(origin)}@${digest}`;
}
