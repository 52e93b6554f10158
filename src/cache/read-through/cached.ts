// Cached blobs: opening them, reading small ones whole within a limit, and writing them so that a full or read-only disk does not stop a
// pull. The content store verifies everything that it opens or reads.
import { type ContentStore, ContentTooLarge, StorageFailure } from '../../content/store.ts';
import { type ByteRange, joinBytes } from '../../oci/bytes.ts';
import type { ContentDescriptor } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { MAX_CONFIG_BYTES } from '../../oci/image-config.ts';
import { isTransient } from '../../state/store.ts';

/** An available blob. */
export interface Blob {
  /** In bytes; undefined while it streams from an upstream that does not report it. */
  readonly size: number | undefined;
  /** The bytes or, where the size is known, a range of them. The caller reads the stream to its end or cancels it. */
  open(range?: ByteRange): Promise<ReadableStream<Uint8Array>>;
  /** As ContentStore.locate. */
  readonly locate?: (() => Promise<string | undefined>) | undefined;
}

interface CachedBlob {
  readonly digest: Digest;
  readonly size: number;
  /** The same blob from its source, in case it was evicted or found damaged since it was looked up. Throws where there is none. */
  readonly refetch: () => Promise<Pick<Blob, 'open'>>;
}

export function cachedBlob(
  content: Pick<ContentStore, 'open' | 'locate'>,
  { digest, size, refetch }: CachedBlob,
): Blob & { readonly size: number } {
  return {
    size,
    open: async range => (await content.open(digest, range)) ?? (await refetch()).open(range),
    locate: async () => content.locate?.(digest),
  };
}

/** A blob whose bytes are in memory. */
export function bytesBlob(bytes: Uint8Array): Blob {
  return {
    size: bytes.byteLength,
    open: async range => ReadableStream.from([range ? bytes.subarray(range.start, range.end + 1) : bytes]),
  };
}

/** All bytes of a small blob; undefined where it has more than `maxBytes`. */
export async function readBlob(blob: Blob, maxBytes: number): Promise<Uint8Array | undefined> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of await blob.open()) {
    size += chunk.byteLength;
    if (size > maxBytes) return undefined;
    chunks.push(chunk);
  }
  return joinBytes(chunks);
}

/**
 * All bytes of small content, verified; undefined when it is missing, larger than `maxBytes`, or was damaged. The caller has checked the
 * link.
 */
export async function readCached(
  content: Pick<ContentStore, 'read'>,
  digest: Digest,
  maxBytes: number,
): Promise<Uint8Array | undefined> {
  try {
    return await content.read(digest, maxBytes);
  } catch (error) {
    if (error instanceof ContentTooLarge) return undefined;
    throw error;
  }
}

/** Throws MANIFEST_INVALID for a config that is too large or differs in size from its manifest; ContentMismatch for other bytes. */
export async function readConfigBlob(descriptor: ContentDescriptor, getBlob: () => Promise<Blob>): Promise<Uint8Array> {
  requireSmallConfig(descriptor);
  const { digest, size } = descriptor;
  const blob = await getBlob();
  // Large blobs are not opened: verifying a cached one costs more than reading its beginning.
  const raw = (blob.size ?? 0) > MAX_CONFIG_BYTES ? undefined : await readBlob(blob, size);
  if (raw?.byteLength === size) return raw;
  throw invalid(`${digest} does not have the ${size} bytes that its manifest claims`);
}

/** Throws MANIFEST_INVALID for a config that is too large according to its manifest. */
export function requireSmallConfig({ digest, size }: ContentDescriptor): void {
  if (size > MAX_CONFIG_BYTES) throw invalid(`${digest} is larger than ${MAX_CONFIG_BYTES} bytes`);
}

function invalid(reason: string): RegistryError {
  return new RegistryError('MANIFEST_INVALID', `invalid image config: ${reason}`);
}

/** Best-effort write: a full disk and records that are locked or away are ignored; any other error is thrown. */
export async function bestEffort(written: Promise<unknown>): Promise<void> {
  try {
    await written;
  } catch (error) {
    if (!(error instanceof StorageFailure || isTransient(error))) throw error;
  }
}
