// Blobs of upstream repositories: kept ones from the store, others from one transfer that all who wait follow while it grows.

import { type ContentStore, StorageFailure } from '../../content/store.ts';
import { joinBytes } from '../../oci/bytes.ts';
import type { Digest } from '../../oci/digest.ts';
import type { ByteRange } from '../../oci/range.ts';
import { ContentMismatch } from '../../oci/verify.ts';
import type { CallOptions } from '../../upstream/upstream.ts';
import { readKept } from './cached.ts';
import { createKeptBlobs } from './cached-blobs.ts';
import { isStillOpen, type Link, type Links } from './links.ts';
import { passThrough } from './pass-through.ts';
import { createSingleFlight } from './single-flight.ts';
import { repositoryKey, type UpstreamRepository } from './upstream-repository.ts';

/** A blob that can be had. */
export interface Blob {
  /** In bytes; undefined while it streams from an upstream that does not say. */
  readonly size: number | undefined;
  /** The bytes or, where the size is known, a part of them. The caller reads the stream to its end or cancels it. */
  open(range?: ByteRange): Promise<ReadableStream<Uint8Array>>;
}

export interface Blobs {
  /** Asks only whether it is there: starts no transfer. Throws the upstream's error. */
  head(origin: UpstreamRepository, digest: Digest): Promise<{ readonly size: number | undefined }>;
  /**
   * Starts the transfer, or joins it, unless the blob is kept. Throws the upstream's error, or the signal's reason: where all who asked leave
   * before it begins, it does not.
   */
  get(origin: UpstreamRepository, digest: Digest, options?: CallOptions): Promise<Blob>;
  /** All bytes of one that is kept, verified; undefined where it is not, or is larger than `maxBytes`. */
  readKept(origin: UpstreamRepository, digest: Digest, maxBytes: number): Promise<Uint8Array | undefined>;
}

/** Opens a body whose digest is known, from wherever it is. */
type OpenBody = (
  signal?: AbortSignal,
) => Promise<{ readonly body: ReadableStream<Uint8Array>; readonly size: number | undefined }>;

interface BlobsDeps extends TransfersDeps {
  readonly links: Links;
}

export function createBlobs({ content, links, onFailed }: BlobsDeps): Blobs {
  const transfers = createTransfers({ content, onFailed });
  const keptBlob = createKeptBlobs(content);

  async function findKept(origin: UpstreamRepository, digest: Digest): Promise<{ readonly size: number } | undefined> {
    const link = await links.find(origin, digest);
    if (link) return findLinked(digest, link);
    const earlier = links.findEarlier(origin, digest);
    const kept = earlier && (await findLinked(digest, earlier));
    const { upstream, repository } = origin;
    if (!kept || !(await isStillOpen(() => upstream.headBlob(repository, digest)))) return undefined;
    await links.add(origin, digest, earlier);
    return kept;
  }

  async function findLinked(digest: Digest, { size }: Link): Promise<{ readonly size: number } | undefined> {
    const kept = await content.find(digest);
    if (!kept || kept.size === size) return kept;
    // The link counts what was verified: the disk has damaged it.
    await content.delete(digest);
    return undefined;
  }

  /** `knownSize` is of a blob that was kept, for an upstream that does not say. */
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
      return (await findKept(origin, digest)) ?? origin.upstream.headBlob(origin.repository, digest);
    },
    async get(origin, digest, options) {
      // First, as its reader may have all its bytes while nothing at rest tells of it yet.
      const growing = transfers.find(transferKey(origin, digest));
      if (growing) return growing;
      const kept = await findKept(origin, digest);
      if (kept)
        return keptBlob({
          digest,
          size: kept.size,
          getAnew: () => transfer(origin, digest, { ...options, knownSize: kept.size }),
        });
      return transfer(origin, digest, options);
    },
    async readKept(origin, digest, maxBytes) {
      const link = await links.find(origin, digest);
      return link && link.size <= maxBytes ? readKept(content, digest, maxBytes) : undefined;
    },
  };
}

/** No transfer is followed by another client, nor by another repository. */
function transferKey(origin: UpstreamRepository, digest: Digest): string {
  return `${repositoryKey(origin)}@${digest}`;
}

interface TransferRequest {
  readonly key: string;
  readonly digest: Digest;
  readonly openBody: OpenBody;
  /** Of who asks. */
  readonly signal?: AbortSignal | undefined;
  /** Called when the whole body was sent, verified and kept. Until it resolves, who asks joins the transfer. */
  readonly onKept?: (size: number) => Promise<void>;
}

export interface TransfersDeps {
  readonly content: ContentStore;
  /** Hears of each transfer that broke, lied or could not be kept after it had begun: readers only see their connection cut. */
  readonly onFailed: (digest: Digest, error: unknown) => void;
}

/** One transfer into the store for each key at a time; all who ask meanwhile follow it. */
interface Transfers {
  /** One that goes on: until what it leaves can be found by all who look for it. */
  find(key: string): Blob | undefined;
  /** Starts it, unless it goes on. */
  join(request: TransferRequest): Promise<Blob>;
}

export function createTransfers({ content, onFailed }: TransfersDeps): Transfers {
  const opening = createSingleFlight<Blob>();
  const growing = new Map<string, Blob>();

  async function start({ key, digest, openBody, onKept }: TransferRequest, signal: AbortSignal): Promise<Blob> {
    const { body, size } = await openBody(signal);
    const expected = { digest, size };
    const ingestion = content.ingest(body, expected, { isForReaders: true });
    const blob: Blob = { size, open };
    let isKept = false;
    growing.set(key, blob);
    const finish = async () => {
      const kept = await ingestion.done;
      isKept = true;
      await onKept?.(kept.size);
    };
    finish().then(
      () => growing.delete(key),
      error => {
        growing.delete(key);
        onFailed(digest, error);
      },
    );
    return blob;

    async function pass(range?: ByteRange): Promise<ReadableStream<Uint8Array>> {
      return passThrough((await openBody()).body, expected, range);
    }

    async function open(range?: ByteRange): Promise<ReadableStream<Uint8Array>> {
      try {
        await ingestion.begun;
      } catch (error) {
        // A disk that takes nothing, or no more, must not stop pulls.
        if (error instanceof StorageFailure) return pass(range);
        // Other bytes than promised break the stream, as they do later on.
        if (!(error instanceof ContentMismatch)) throw error;
      }
      if (!isKept) return ingestion.open(range, pass);
      // What is kept may have been dropped since.
      return (await content.open(digest, range)) ?? pass(range);
    }
  }

  return {
    find: key => growing.get(key),
    join: async request =>
      growing.get(request.key) ?? opening(request.key, signal => start(request, signal), request.signal),
  };
}

/** A blob whose bytes are at hand. */
export function bytesBlob(bytes: Uint8Array): Blob {
  return {
    size: bytes.byteLength,
    open: async range => ReadableStream.from([range ? bytes.subarray(range.start, range.end + 1) : bytes]),
  };
}

/** All bytes of a small blob. Throws RangeError beyond `maxBytes`. */
export async function readBlob(blob: Blob, maxBytes: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of await blob.open()) {
    size += chunk.byteLength;
    if (size > maxBytes) throw new RangeError(`more than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return joinBytes(chunks);
}
