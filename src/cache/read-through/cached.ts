// Blobs, and what is cached of them: how it is opened, how small content is read whole within a bound, and how it is written where a disk that
// takes nothing must not stop a pull. The content store verifies all that it opens or reads.
import { type ContentStore, ContentTooLarge, StorageFailure } from '../../content/store.ts';
import { type ByteRange, joinBytes } from '../../oci/bytes.ts';
import type { ContentDescriptor } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { MAX_CONFIG_BYTES } from '../../oci/image-config.ts';
import { RecordStoreBusy, RecordStoreFull } from '../../state/store.ts';

/** A blob that can be had. */
export interface Blob {
  /** In bytes; undefined while it streams from an upstream that does not say. */
  readonly size: number | undefined;
  /** The bytes or, where the size is known, a part of them. The caller reads the stream to its end or cancels it. */
  open(range?: ByteRange): Promise<ReadableStream<Uint8Array>>;
}

interface CachedBlob {
  readonly digest: Digest;
  readonly size: number;
  /** The same blob from where it came from, for one that was evicted or found damaged since it was looked up. Throws where there is none. */
  readonly refetch: () => Promise<Pick<Blob, 'open'>>;
}

export function cachedBlob(
  content: Pick<ContentStore, 'open'>,
  { digest, size, refetch }: CachedBlob,
): Blob & { readonly size: number } {
  return {
    size,
    open: async range => (await content.open(digest, range)) ?? (await refetch()).open(range),
  };
}

/** A blob whose bytes are at hand. */
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
 * All bytes of small content, verified; undefined when it is not there, is larger than `maxBytes`, or was damaged. For whoever was
 * sent it: the caller has looked at the link.
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

/** Throws MANIFEST_INVALID for a config of another size than its manifest says, or too large; ContentMismatch for other bytes. */
export async function readConfigBlob(descriptor: ContentDescriptor, getBlob: () => Promise<Blob>): Promise<Uint8Array> {
  requireSmallConfig(descriptor);
  const { digest, size } = descriptor;
  const blob = await getBlob();
  // Of a large blob nothing is opened: to verify a cached one costs more than to read the beginning.
  const raw = (blob.size ?? 0) > MAX_CONFIG_BYTES ? undefined : await readBlob(blob, size);
  if (raw?.byteLength === size) return raw;
  throw invalid(`${digest} has not the ${size} bytes that its manifest says`);
}

/** Throws MANIFEST_INVALID for a config that its manifest says to be too large. */
export function requireSmallConfig({ digest, size }: ContentDescriptor): void {
  if (size > MAX_CONFIG_BYTES) throw invalid(`${digest} is larger than ${MAX_CONFIG_BYTES} bytes`);
}

function invalid(reason: string): RegistryError {
  return new RegistryError('MANIFEST_INVALID', `invalid image config: ${reason}`);
}

/** Waits for what is written. Where there is no room for it, or others lock the records, nothing is remembered; all else that fails is thrown. */
export async function bestEffort(written: Promise<unknown>): Promise<void> {
  try {
    await written;
  } catch (error) {
    if (![StorageFailure, RecordStoreFull, RecordStoreBusy].some(known => error instanceof known)) throw error;
  }
}
