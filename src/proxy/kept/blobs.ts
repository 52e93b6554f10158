// Blobs of upstream repositories: kept ones from the store, others from one transfer that all who wait follow while it grows.
import { type ContentStore, StorageFailure } from '../../content/store.ts';
import type { Digest } from '../../oci/digest.ts';
import type { ByteRange } from '../../oci/range.ts';
import { ContentMismatch, createVerifier } from '../../oci/verify.ts';
import { createFlight } from '../flight.ts';
import { passThrough } from '../pass-through.ts';
import { createKeptBlobs } from './kept-blobs.ts';
import type { Link, Links } from './links.ts';
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
  /** Starts the transfer, or joins it, unless the blob is kept. Throws the upstream's error. */
  get(origin: UpstreamRepository, digest: Digest): Promise<Blob>;
}

/** Opens a body whose digest is known, from wherever it is. */
export type OpenBody = () => Promise<{ readonly body: ReadableStream<Uint8Array>; readonly size: number | undefined }>;

export interface BlobsDeps extends TransfersDeps {
  readonly links: Links;
}

export function createBlobs({ content, links, onFailed }: BlobsDeps): Blobs {
  const transfers = createTransfers({ content, onFailed });
  const keptBlob = createKeptBlobs({ content, onDamaged: onFailed });

  async function findKept(origin: UpstreamRepository, digest: Digest): Promise<{ readonly size: number } | undefined> {
    const kept = await content.find(digest);
    if (!kept) return undefined;
    const link = (await links.find(origin, digest)) ?? (await ask(origin, digest));
    if (!link) return undefined;
    const { size } = link;
    if (size === undefined || size === kept.size) return kept;
    if (await isIntact(digest)) {
      await links.add(origin, digest, kept);
      return kept;
    }
    await content.delete(digest);
    return undefined;
  }

  /**
   * Content that another repository brought is this one's only when its upstream says so: digests are no secrets. One that has never sent
   * it does so now: undefined.
   */
  async function ask(origin: UpstreamRepository, digest: Digest): Promise<Link | undefined> {
    if (!(await links.isFrom(origin.upstream.name, digest))) return undefined;
    const { size } = await origin.upstream.headBlob(origin.repository, digest);
    await links.add(origin, digest, { size });
    return { size };
  }

  /** A disk may have damaged what is kept, but a size alone does not prove it: an upstream that lies must not spoil what others brought. */
  async function isIntact(digest: Digest): Promise<boolean> {
    const body = await content.open(digest);
    if (!body) return false;
    const verifier = createVerifier({ digest });
    try {
      for await (const chunk of body) verifier.update(chunk);
      verifier.finish();
      return true;
    } catch (error) {
      if (error instanceof ContentMismatch) return false;
      throw error;
    }
  }

  /** `knownSize` is of a blob that was kept, for an upstream that does not say. */
  function transfer(origin: UpstreamRepository, digest: Digest, knownSize?: number): Promise<Blob> {
    return transfers({
      key: `${repositoryKey(origin)}@${digest}`,
      digest,
      async openBody() {
        const { body, size = knownSize } = await origin.upstream.openBlob(origin.repository, digest);
        return { body, size };
      },
      onOpened: size => links.add(origin, digest, { size }),
    });
  }

  return {
    head: async (origin, digest) =>
      (await findKept(origin, digest)) ?? origin.upstream.headBlob(origin.repository, digest),
    async get(origin, digest) {
      const kept = await findKept(origin, digest);
      if (kept) return keptBlob({ digest, size: kept.size, getAnew: () => transfer(origin, digest, kept.size) });
      return transfer(origin, digest);
    },
  };
}

export interface TransferRequest {
  readonly key: string;
  readonly digest: Digest;
  readonly openBody: OpenBody;
  /** Called when the upstream has agreed to send the body, with the size that it says. */
  readonly onOpened?: (size: number | undefined) => Promise<void>;
}

export interface TransfersDeps {
  readonly content: ContentStore;
  /** Hears of each transfer that broke, lied or could not be kept after it had begun: readers only see their connection cut. */
  readonly onFailed: (digest: Digest, error: unknown) => void;
}

/** One transfer into the store for each key at a time; all who ask meanwhile follow it. */
export function createTransfers({ content, onFailed }: TransfersDeps): (request: TransferRequest) => Promise<Blob> {
  const opening = createFlight<Blob>();
  const growing = new Map<string, Blob>();

  async function start({ key, digest, openBody, onOpened }: TransferRequest): Promise<Blob> {
    const { body, size } = await openBody();
    const expected = { digest, size };
    const ingestion = content.ingest(body, expected);
    const blob: Blob = { size, open };
    let isKept = false;
    growing.set(key, blob);
    ingestion.done.then(
      () => {
        isKept = true;
        growing.delete(key);
      },
      error => {
        growing.delete(key);
        onFailed(digest, error);
      },
    );
    await onOpened?.(size);
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

  return async request => growing.get(request.key) ?? opening(request.key, () => start(request));
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
  return Buffer.concat(chunks);
}
