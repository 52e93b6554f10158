// Uploads in progress as files, drafts/<id>, on the same file system as blobs. A file grows over several requests and survives restarts,
// until its digest turns it into content.
import { createHash, type Hash } from 'node:crypto';
import { constants, type FileHandle, mkdir, open, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { ByteRange } from '../oci/bytes.ts';
import { type Digest, type DigestAlgorithm, digestAlgorithm, encodeDigest } from '../oci/digest.ts';
import { ContentMismatch } from '../oci/verify.ts';
import { type BlobFiles, createBlobFiles } from './blob-files.ts';
import { type BlockSums, createBlockSummer } from './block-sums.ts';
import { readChunk } from './byte-stream.ts';
import { createFileWriter, writeSynced } from './file-writer.ts';
import type { VerifiedFile } from './store.ts';

export interface UploadFiles {
  /** An empty file. `id` is a UUID that no other upload has. */
  create(id: string, algorithm: DigestAlgorithm, options?: CreateOptions): Promise<UploadFile>;
  /** The existing file; undefined where there is none. */
  open(id: string, algorithm: DigestAlgorithm): Promise<UploadFile | undefined>;
  /** When bytes were last received, by the clock of the file system; undefined where there is no such file. */
  findTouched(id: string): Promise<Date | undefined>;
  /** Removes a file, if there is one. */
  discard(id: string): Promise<void>;
  list(): Promise<readonly string[]>;
}

interface CreateOptions {
  /** Whether it comes on disk only when it has to: by `keep`, by its commit, and by bytes that are not the last, or too many to hold. */
  readonly isHeld?: boolean;
}

/** On this disk. */
interface LocalUploadFiles extends UploadFiles {
  create(id: string, algorithm: DigestAlgorithm, options?: CreateOptions): Promise<LocalUploadFile>;
}

/** Files of an earlier process are available again. */
export async function createUploadFiles({
  directory,
  onCommitted,
  commit,
  reopen,
}: Pick<UploadFileOptions, 'onCommitted' | 'reopen'> & {
  /** Turns a file that is verified and synced into content. Default: it is moved to where the disk store has it. */
  readonly commit?: BlobFiles['commit'] | undefined;
  /** The directory of an open disk store. */
  readonly directory: string;
}): Promise<LocalUploadFiles> {
  const folder = join(directory, 'drafts');
  await mkdir(folder, { recursive: true });
  const files = commit ? { commit } : createBlobFiles(directory);
  const pathOf = (id: string) => join(folder, parseId(id));
  const shared = { files, onCommitted, reopen, receiving: { bytes: 0 } };
  return {
    async create(id, algorithm, { isHeld = false } = {}) {
      const file = createUploadFile({ path: pathOf(id), size: undefined, algorithm, ...shared });
      if (!isHeld) await file.keep();
      return file;
    },
    async open(id, algorithm) {
      const path = pathOf(id);
      const size = (await findStats(path))?.size;
      return size === undefined ? undefined : createUploadFile({ path, size, algorithm, ...shared });
    },
    findTouched: async id => (await findStats(pathOf(id)))?.mtime,
    discard: id => rm(pathOf(id), { force: true }),
    list: async () => (await readdir(folder)).filter(isUploadId),
  };
}

const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export function isUploadId(name: string): boolean {
  return UUID.test(name);
}

/** An id becomes a file name. */
function parseId(id: string): string {
  if (!isUploadId(id)) throw new TypeError('the id of an upload file must be a UUID');
  return id;
}

async function findStats(path: string) {
  return await stat(path, { throwIfNoEntry: false });
}

/** Calls on one file must not overlap. */
export interface UploadFile {
  /** Bytes on disk, or held until the commit. Those on disk can be lost only by a crash of the machine. */
  readonly size: number;
  /**
   * Appends `pieces`, as fast as the disk takes them. Bytes that arrived before an error are retained. `isLast`: a commit follows, so that
   * a few bytes need not be on disk before it.
   */
  append(pieces: AsyncIterable<Uint8Array>, options?: { readonly isLast?: boolean }): Promise<void>;
  /** Puts it on disk, if it is not there: absent where it always is. */
  readonly keep?: (() => Promise<void>) | undefined;
  /** Drops what arrived after this size, so that it can be sent again, also after a commit. Throws where the content cannot be read back. */
  truncate(size: number): Promise<void>;
  /** Turns the file into content, durable when it resolves. Throws ContentMismatch for other bytes, and leaves the file unchanged. */
  commit(expected: Digest): Promise<void>;
  /**
   * Shows what has arrived to all processes that share the records: absent where they share the file, or are one. What cannot be shown can be
   * truncated.
   */
  readonly publish?: (() => Promise<void>) | undefined;
  /** To be called once committed content is linked: removes what is left of the file. Never rejects. */
  readonly clear?: (() => Promise<void>) | undefined;
}

export interface LocalUploadFile extends UploadFile {
  keep(): Promise<void>;
  /** The file as it is, synced, with its digest. */
  seal(): Promise<VerifiedFile>;
}

interface UploadFileOptions {
  readonly path: string;
  /** Bytes that are already in the file; undefined where it does not exist. */
  readonly size: number | undefined;
  /** The algorithm that hashes the bytes as they arrive. Digests of any other are computed from the file. */
  readonly algorithm: DigestAlgorithm;
  readonly files: Pick<BlobFiles, 'commit'>;
  /** Bytes that all uploads hold in memory while they are received. */
  readonly receiving: { bytes: number };
  /** Called with the sums of the committed content, where they are known. */
  readonly onCommitted?: ((digest: Digest, sums: BlockSums) => void) | undefined;
  /** A range of committed content, for an upload that goes back to before its commit; undefined where there is no such content. */
  readonly reopen?: ((digest: Digest, range: ByteRange) => Promise<ReadableStream<Uint8Array> | undefined>) | undefined;
}

export function createUploadFile({
  path,
  size: initialSize,
  algorithm,
  files,
  receiving,
  onCommitted,
  reopen,
}: UploadFileOptions): LocalUploadFile {
  let size = initialSize ?? 0;
  let isOnDisk = initialSize !== undefined;
  /** All bytes, while it is not on disk. */
  let held: Uint8Array[] = [];
  // Of all bytes in the file; undefined where some were received by another process.
  let hash = size === 0 ? createHash(algorithm) : undefined;
  let summer = createBlockSummer();
  let committed: Digest | undefined;

  /** Makes the file anew, from the content that it has become. */
  async function restore(digest: Digest, to: number): Promise<void> {
    const body = to === 0 ? [] : await reopen?.(digest, { start: 0, end: to - 1 });
    if (!body) throw new Error(`the upload has become the content ${digest}, which cannot be read`);
    [committed, isOnDisk, held, size] = [undefined, false, [], 0];
    hash = createHash(algorithm);
    summer = createBlockSummer();
    await writeOn(body);
  }

  async function writeOn(pieces: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<void> {
    await withFile(path, isOnDisk ? APPEND : 'wx', async file => {
      const before = held;
      if (!isOnDisk) [isOnDisk, held, size] = [true, [], 0];
      if (before.length > 0) await write(file, before);
      await write(file, pieces);
    });
  }

  async function keep(): Promise<void> {
    if (!isOnDisk) await writeOn([]);
  }

  /** Holds the last pieces, and returns what has too many of them: they are to be written. */
  async function hold(pieces: AsyncIterable<Uint8Array>): Promise<AsyncIterable<Uint8Array> | undefined> {
    const source = pieces[Symbol.asyncIterator]();
    let counted = 0;
    const hasRoom = () =>
      size <= MAX_HELD_BYTES && held.length < MAX_HELD_PIECES && receiving.bytes < MAX_RECEIVING_BYTES;
    try {
      while (hasRoom()) {
        const { done, value } = await source.next();
        if (done) return undefined;
        held.push(value);
        size += value.byteLength;
        counted += value.byteLength;
        receiving.bytes += value.byteLength;
      }
    } catch (error) {
      await keep();
      throw error;
    } finally {
      receiving.bytes -= counted;
    }
    return { [Symbol.asyncIterator]: () => source };
  }

  /** A commit of what is held writes it at once. */
  async function commitHeld(expected: Digest): Promise<void> {
    const wanted = digestAlgorithm(expected);
    const seen = createHash(wanted);
    const sums = createBlockSummer();
    for (const piece of held) {
      seen.update(piece);
      sums.update(piece);
    }
    requireEqual(encodeDigest(wanted, seen), expected);
    await writeSynced(path, held);
    isOnDisk = true;
    // Whoever reads it here once more finds the bytes that it has.
    hash = undefined;
    held = [];
    await files.commit(path, expected);
    committed = expected;
    onCommitted?.(expected, sums.finish());
  }

  function requireEqual(actual: Digest, expected: Digest): void {
    if (actual !== expected) throw new ContentMismatch(`the ${size} bytes have digest ${actual}, not ${expected}`);
  }

  async function write(file: FileHandle, pieces: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<void> {
    const before = size;
    let received = size;
    const writer = createFileWriter(file, {
      maxWaitingBytes: MAX_WAITING_BYTES,
      syncEveryBytes: SYNC_EVERY_BYTES,
      onWritten(bytes) {
        size = before + bytes;
      },
      // The next piece says so, or the end.
      onFailed() {},
    });
    const whole = async () => {
      for await (const piece of pieces) {
        hash?.update(piece);
        summer.update(piece);
        received += piece.byteLength;
        await writer.write(piece);
      }
    };
    try {
      await whole().finally(writer.flush);
    } catch (error) {
      size = (await file.stat()).size;
      if (size !== received) hash = undefined;
      throw error;
    }
  }

  async function seal(wanted: DigestAlgorithm, check: (actual: Digest) => void = () => {}): Promise<Digest> {
    await keep();
    return withFile(path, constants.O_RDONLY, async file => {
      const seen = hash && wanted === algorithm ? hash.copy() : await hashFile(file, size, wanted);
      const actual = encodeDigest(wanted, seen);
      check(actual);
      const { size: onDisk } = await file.stat();
      if (onDisk !== size) throw new Error(`a file of ${size} bytes has ${onDisk} on disk`);
      await file.datasync();
      return actual;
    });
  }

  return {
    get size() {
      return size;
    },
    async append(pieces, { isLast = false } = {}) {
      const left = isLast && !isOnDisk ? await hold(pieces) : pieces;
      if (left) await writeOn(left);
    },
    keep,
    async truncate(to) {
      if (committed) return restore(committed, to);
      if (to === size) return;
      if (!isOnDisk) {
        held = [];
        size = to;
        return;
      }
      await withFile(path, constants.O_WRONLY, file => file.truncate(to));
      size = to;
      hash = to === 0 ? createHash(algorithm) : undefined;
      summer = createBlockSummer();
    },
    async commit(expected) {
      if (!isOnDisk) return commitHeld(expected);
      await seal(digestAlgorithm(expected), actual => requireEqual(actual, expected));
      await files.commit(path, expected);
      committed = expected;
      if (hash) onCommitted?.(expected, summer.finish());
    },
    seal: async () => ({ path, size, digest: await seal(algorithm) }),
  };
}

/** Of each upload, beside as much that is being written: a file takes few large writes, and many uploads little memory. */
const MAX_WAITING_BYTES = 256 * 1024;

/** A disk that begins with the last request has all of a large blob to store while its client waits. */
const SYNC_EVERY_BYTES = 8 * 1024 * 1024;

/** A blob up to this size needs no file before its commit: it is written and synced at once. */
const MAX_HELD_BYTES = 256 * 1024;
/** Clients choose the size of pieces, each of which takes some memory beside its bytes. */
const MAX_HELD_PIECES = 64;
/** Of all uploads: further ones go to the disk as they arrive, so that slow clients take no memory. */
const MAX_RECEIVING_BYTES = 8 * 1024 * 1024;

/** Not 'a', which would recreate a removed file. */
const APPEND = constants.O_WRONLY | constants.O_APPEND;

async function hashFile(file: FileHandle, size: number, algorithm: DigestAlgorithm): Promise<Hash> {
  const hash = createHash(algorithm);
  for (let offset = 0; offset < size; ) {
    const chunk = await readChunk(file, offset, size);
    hash.update(chunk);
    offset += chunk.byteLength;
  }
  return hash;
}

async function withFile<T>(path: string, flags: number | 'wx', work: (file: FileHandle) => Promise<T>): Promise<T> {
  const file = await open(path, flags);
  try {
    return await work(file);
  } finally {
    await file.close();
  }
}
