// Blobs of upstream repositories: cached ones from the store, others from one transfer that all who wait follow while it grows.
import type { Digest } from '../../oci/digest.ts';
import type { CallOptions } from '../../upstream/upstream.ts';
import { type Blob, cachedBlob, readCached } from './cached.ts';
import { isStillAccessible, type Link, type Links, repositoryKey, type UpstreamRepository } from './links.ts';
import { createTransfers, type TransfersDeps } from './transfers.ts';

export interface Blobs {
  /** Asks only whether it is there: starts no transfer. Throws the upstream's error. */
  head(origin: UpstreamRepository, digest: Digest): Promise<{ readonly size: number | undefined }>;
  /**
   * Starts the transfer, or joins it, unless the blob is cached. Throws the upstream's error, or the signal's reason: where all who asked leave
   * before it begins, it does not.
   */
  get(origin: UpstreamRepository, digest: Digest, options?: CallOptions): Promise<Blob>;
  /** All bytes of one that is cached, verified; undefined where it is not, or is larger than `maxBytes`. */
  readCached(origin: UpstreamRepository, digest: Digest, maxBytes: number): Promise<Uint8Array | undefined>;
}

export function createBlobs({ content, links, onFailed }: TransfersDeps & { readonly links: Links }): Blobs {
  const transfers = createTransfers({ content, onFailed });

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
    // The link has the size that was verified: the disk has damaged the content.
    await content.delete(digest);
    return undefined;
  }

  /** `knownSize` is of a blob that was cached, for an upstream that does not say. */
  function transfer(
    origin: UpstreamRepository,
    digest: Digest,
    { knownSize, signal }: CallOptions & { readonly knownSize?: number } = {},
  ): Promise<Blob> {
    return transfers.join({
      key: transferKey(origin, digest),
      digest,
      signal,
      async openBody(stop) {
        const { body, size = knownSize } = await origin.upstream.openBlob(origin.repository, digest, { signal: stop });
        return { body, size };
      },
      onKept: size => links.add(origin, digest, { size }),
    });
  }

  return {
    async head(origin, digest) {
      const growing = transfers.find(transferKey(origin, digest));
      if (growing?.size !== undefined) return { size: growing.size };
      return (await findCached(origin, digest)) ?? origin.upstream.headBlob(origin.repository, digest);
    },
    async get(origin, digest, options) {
      // First, as its reader may have all its bytes while nothing at rest tells of it yet.
      const growing = transfers.find(transferKey(origin, digest));
      if (growing) return growing;
      const cached = await findCached(origin, digest);
      if (!cached) return transfer(origin, digest, options);
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

/** No transfer is followed by another client, nor by another repository. */
function transferKey(origin: UpstreamRepository, digest: Digest): string {
  return `${repositoryKey(origin)}@${digest}`;
}
