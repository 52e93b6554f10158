// Bytes by digest: the interface of all content stores, checked by test/contract/content-store.ts.
import type { ByteRange } from '../oci/bytes.ts';
import type { ContentDescriptor } from '../oci/descriptor.ts';
import type { Digest, DigestAlgorithm } from '../oci/digest.ts';
import type { Expected } from '../oci/verify.ts';

export interface ContentStore {
  /** The size in bytes; undefined when the content is not stored. */
  find(digest: Digest): Promise<{ readonly size: number } | undefined>;
  /**
   * The bytes, or a range of them; undefined when the content is not stored. Reads return verified bytes: where the disk has damaged them,
   * the stream breaks before its last byte, and the content is no longer stored. The caller reads the stream to its end or cancels it.
   */
  open(digest: Digest, range?: ByteRange): Promise<ReadableStream<Uint8Array> | undefined>;
  /**
   * All bytes of small content, verified; undefined when it is not stored, or was damaged and is dropped. Throws ContentTooLarge beyond
   * `maxBytes`, without reading any of it.
   */
  read(digest: Digest, maxBytes: number): Promise<Uint8Array | undefined>;
  /** Stores `bytes`, on disk when it resolves. Throws StorageFailure. */
  put(bytes: Uint8Array, algorithm?: DigestAlgorithm): Promise<Digest>;
  /**
   * Starts to store a body of unknown or expected digest: readers may follow it while it grows. The body is pulled as fast as the disk
   * takes it, whether anybody reads or not.
   */
  ingest(body: ReadableStream<Uint8Array>, expected?: Expected, options?: IngestOptions): Ingestion;
  delete(digest: Digest): Promise<void>;
  /**
   * An address from which anybody may read the bytes for a short while, unverified; undefined where they are not stored. Absent: content
   * of this store has none.
   */
  readonly locate?: ((digest: Digest) => Promise<string | undefined>) | undefined;
  close(): Promise<void>;
}

export interface IngestOptions {
  /** Whether it is only for its readers: when all have left, or none has come, it fails after a while. */
  readonly isForReaders?: boolean | undefined;
  /**
   * Stores the verified file elsewhere, before it becomes content here: where it throws, nothing is stored. What is stored elsewhere takes
   * nothing of the budget while it comes in.
   */
  readonly storeElsewhere?: ((file: VerifiedFile) => Promise<void>) | undefined;
  /** The same for a copy: the content belongs here, and counts as usual. */
  readonly copyElsewhere?: ((file: VerifiedFile) => Promise<void>) | undefined;
}

export interface VerifiedFile {
  readonly path: string;
  readonly digest: Digest;
  /** In bytes. */
  readonly size: number;
}

/**
 * The store itself cannot store content: it is full, closed for writes, or broken. The body is not at fault, and may be read without
 * storing it.
 */
export class StorageFailure extends Error {
  override readonly name = 'StorageFailure';
}

/** Content is too large to be read whole. */
export class ContentTooLarge extends Error {
  override readonly name = 'ContentTooLarge';
}

/** Incoming content. It appears in the store whole and verified, or not at all. */
export interface Ingestion {
  /** Resolves when the first bytes are stored, before which no reader gets any; rejects like `done` if there are none. */
  readonly begun: Promise<void>;
  /**
   * Resolves when the content is stored; rejects with ContentMismatch for bytes other than expected, with StorageFailure, or with the
   * body's own error.
   */
  readonly done: Promise<Omit<ContentDescriptor, 'mediaType'>>;
  /** How many bytes have come. */
  readonly received: number;
  /**
   * The bytes from `start`, as they arrive; the last ones are held back until everything is verified, and an error breaks the stream.
   * `range` requires `expected` with its size. With `recover`, a StorageFailure is not fatal: the rest comes from there. The caller reads
   * it to its end or cancels it, which stops only this reader.
   */
  open(range?: ByteRange, recover?: Recover): ReadableStream<Uint8Array>;
}

/** The rest of the content; `end` is infinite where the size may be unknown. */
export type Recover = (rest: ByteRange) => Promise<ReadableStream<Uint8Array>>;
