// Bytes by digest: the interface that all stores of content keep, and that test/contract/content-store.ts checks.
import type { ByteRange } from '../oci/bytes.ts';
import type { ContentDescriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import type { Expected } from '../oci/verify.ts';

export interface ContentStore {
  /** The size in bytes; undefined when the content is not kept. */
  find(digest: Digest): Promise<{ readonly size: number } | undefined>;
  /**
   * The bytes, or a part of them; undefined when the content is not kept. What is read is what was verified: where the disk has damaged it,
   * the stream breaks before its last byte, and the content is not kept any more. The caller reads the stream to its end or cancels it.
   */
  open(digest: Digest, range?: ByteRange): Promise<ReadableStream<Uint8Array> | undefined>;
  /**
   * All bytes of small content, verified; undefined when it is not kept, or was damaged and is kept no more. Throws ContentTooLarge beyond
   * `maxBytes`, and reads nothing of it then.
   */
  read(digest: Digest, maxBytes: number): Promise<Uint8Array | undefined>;
  /** Keeps `bytes`, on disk when it resolves. */
  put(bytes: Uint8Array): Promise<Digest>;
  /**
   * Starts to keep a body of an unknown or a promised digest: readers may follow it while it grows. The body is pulled at the pace of
   * the disk, whether anybody reads or not.
   */
  ingest(body: ReadableStream<Uint8Array>, expected?: Expected, options?: IngestOptions): Ingestion;
  delete(digest: Digest): Promise<void>;
  close(): Promise<void>;
}

export interface IngestOptions {
  /** Whether it is for its readers: when all have left, or none has come, it ends as a failure after a while. */
  readonly isForReaders?: boolean | undefined;
}

/** The store itself cannot keep content: it is full, closed to writing, or broken. The body is not to blame, and may be had without keeping it. */
export class StorageFailure extends Error {
  override readonly name = 'StorageFailure';
}

/** Content is too large to be read whole. */
export class ContentTooLarge extends Error {
  override readonly name = 'ContentTooLarge';
}

/** Content on its way into the store. It appears there whole and verified, or not at all. */
export interface Ingestion {
  /** Resolves when the first bytes are stored, before which no reader gets any; rejects as `done` where it comes to none. */
  readonly begun: Promise<void>;
  /** Resolves when the content is kept; rejects with ContentMismatch for bytes that were not promised, with StorageFailure, or with the body's own error. */
  readonly done: Promise<Omit<ContentDescriptor, 'mediaType'>>;
  /**
   * The bytes from `start` on, as they arrive; the last ones are held back until all are verified, and an error breaks the stream.
   * Needs `expected` with its size where `range` is given. With `recover` a StorageFailure is no end: what is left comes from there. The
   * caller reads it to its end or cancels it, which stops only this reader.
   */
  open(range?: ByteRange, recover?: Recover): ReadableStream<Uint8Array>;
}

/** The rest of content, as far as nobody may have said where it ends: then `end` is infinite. */
export type Recover = (rest: ByteRange) => Promise<ReadableStream<Uint8Array>>;
