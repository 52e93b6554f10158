// Tracks which stored content is known to match its digest, and sets damaged content aside, so that it counts as missing and can be
// refetched or pushed again. Unverified bytes are never returned.
import { type FileHandle, open } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';
import pLimit from 'p-limit';
import type { Memory } from '../memory.ts';
import type { ByteRange } from '../oci/bytes.ts';
import type { Digest } from '../oci/digest.ts';
import { createVerifier, verifyBytes } from '../oci/verify.ts';
import { type BlobFiles, orAbsent } from './blob-files.ts';
import { BLOCK_BYTES, type BlockSums, createBlockSummer } from './block-sums.ts';
import { createByteStream } from './byte-stream.ts';
import { isDamage, streamChecked } from './checked-stream.ts';
import { ContentTooLarge } from './store.ts';

/** Content that was found damaged, and was set aside. */
export interface Damage {
  readonly digest: Digest;
  /** In bytes, as found on disk. */
  readonly size: number;
  readonly reason: string;
  /** Its new path; undefined where it was deleted. */
  readonly setAside: string | undefined;
}

interface VerifyOptions {
  /** Awaited after each piece that is read. */
  readonly limitRate?: ((bytes: number) => Promise<void>) | undefined;
  readonly signal?: AbortSignal | undefined;
}

interface Verified {
  /** In bytes. */
  readonly size: number;
  readonly isIntact: boolean;
}

export interface Verification {
  /** Like `open` of a content store. */
  open(digest: Digest, range?: ByteRange): Promise<ReadableStream<Uint8Array> | undefined>;
  /** Like `read` of a content store. */
  read(digest: Digest, maxBytes: number): Promise<Uint8Array | undefined>;
  /** Like `verify` of a disk store. */
  verify(digest: Digest, options?: VerifyOptions): Promise<Verified | undefined>;
  /** To be called for stored content that has been verified, with these sums. */
  note(digest: Digest, sums: BlockSums): void;
}

/** Content is hashed in steps, with other work in between. */
const STEP_BYTES = 256 * 1024;
/** How many are verified at once on behalf of readers. */
const MAX_VERIFYING = 4;

export function createVerification({
  files,
  memory,
  onDamaged,
}: {
  readonly files: BlobFiles;
  readonly memory: Pick<Memory, 'openCache'>;
  /** Called once for each damage, after the content was set aside. */
  readonly onDamaged: (damage: Damage) => void;
}): Verification {
  // Without an entry, content is verified whole when it is next read.
  const known = memory.openCache<BlockSums>();
  const verifying = new Map<Digest, Promise<BlockSums>>();
  const limit = pLimit(MAX_VERIFYING);

  /** Content of a single block is verified against its digest on each read. */
  function note(digest: Digest, sums: BlockSums): void {
    if (sums.size > BLOCK_BYTES) known.set(digest, sums);
  }

  /** Hashes the open file. Throws ContentMismatch, or the error of the disk, once damaged content was set aside. */
  async function hash(file: FileHandle, digest: Digest, options?: VerifyOptions): Promise<BlockSums> {
    try {
      return await hashFile(file, digest, options);
    } catch (error) {
      if (isDamage(error)) await setAside(file, digest, error);
      throw error;
    }
  }

  async function setAside(file: FileHandle, digest: Digest, error: unknown): Promise<void> {
    known.delete(digest);
    const { size, ino } = await file.stat();
    const aside = await files.setAside(digest, ino);
    if (!aside) return;
    const reason = error instanceof Error ? error.message : String(error);
    onDamaged({ digest, size, reason, setAside: aside.path });
  }

  /** Shared by all concurrent readers. Continues when they leave. */
  function verifyOnce(digest: Digest): Promise<BlockSums> {
    const running = verifying.get(digest) ?? startVerifying(digest);
    verifying.set(digest, running);
    return running;
  }

  async function startVerifying(digest: Digest): Promise<BlockSums> {
    try {
      // Opened before the wait: content evicted meanwhile is still verified.
      const file = await open(files.pathOf(digest));
      const sums = await closing(file, () => limit(() => hash(file, digest)));
      note(digest, sums);
      return sums;
    } finally {
      verifying.delete(digest);
    }
  }

  /** A mismatch may be damage on disk, or a memory fault. */
  async function recheck(digest: Digest): Promise<void> {
    known.delete(digest);
    await verifyOnce(digest).catch(() => {});
  }

  /** Undefined for damaged content, which was set aside. */
  async function readWhole(file: FileHandle, digest: Digest): Promise<Uint8Array | undefined> {
    try {
      const bytes = await file.readFile();
      verifyBytes(bytes, { digest });
      return bytes;
    } catch (error) {
      if (!isDamage(error)) throw error;
      await setAside(file, digest, error);
      return undefined;
    }
  }

  async function openFile(file: FileHandle, digest: Digest, range: ByteRange | undefined) {
    const { size } = await file.stat();
    const start = range?.start ?? 0;
    const end = Math.min(range ? range.end + 1 : size, size);
    if (size <= BLOCK_BYTES) {
      const bytes = await closing(file, () => readWhole(file, digest));
      return bytes && streamBytes(bytes.subarray(start, end));
    }
    const sums = known.get(digest);
    if (sums && sums.size !== size) {
      await closing(file, () => recheck(digest));
      return undefined;
    }
    const check = { sums, verify: () => verifyOnce(digest), onMismatch: () => recheck(digest) };
    return streamChecked(file, { start, end, size, ...check });
  }

  return {
    async open(digest, range) {
      const file = await orAbsent(open(files.pathOf(digest)));
      try {
        return file && (await openFile(file, digest, range));
      } catch (error) {
        await file?.close();
        throw error;
      }
    },
    async read(digest, maxBytes) {
      const file = await orAbsent(open(files.pathOf(digest)));
      return file && closing(file, () => readSmall(file, digest, maxBytes));
    },
    async verify(digest, options) {
      const file = await orAbsent(open(files.pathOf(digest)));
      return file && closing(file, () => verifyFile(file, digest, options));
    },
    note,
  };

  async function readSmall(file: FileHandle, digest: Digest, maxBytes: number): Promise<Uint8Array | undefined> {
    const { size } = await file.stat();
    if (size > maxBytes) throw new ContentTooLarge(`${size} bytes are stored, more than ${maxBytes}`);
    return readWhole(file, digest);
  }

  async function verifyFile(file: FileHandle, digest: Digest, options?: VerifyOptions): Promise<Verified> {
    const { size } = await file.stat();
    try {
      await hash(file, digest, options);
      return { size, isIntact: true };
    } catch (error) {
      if (!isDamage(error)) throw error;
      return { size, isIntact: false };
    }
  }
}

async function hashFile(
  file: FileHandle,
  digest: Digest,
  { limitRate, signal }: VerifyOptions = {},
): Promise<BlockSums> {
  const verifier = createVerifier({ digest });
  const summer = createBlockSummer();
  const { size } = await file.stat();
  const buffer = Buffer.allocUnsafeSlow(Math.min(STEP_BYTES, size + 1));
  for (;;) {
    signal?.throwIfAborted();
    const { bytesRead } = await file.read(buffer, 0, buffer.byteLength, verifier.size);
    if (bytesRead === 0) break;
    const bytes = buffer.subarray(0, bytesRead);
    verifier.update(bytes);
    summer.update(bytes);
    await limitRate?.(bytesRead);
  }
  verifier.finish();
  return summer.finish();
}

async function closing<T>(file: FileHandle, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } finally {
    await file.close();
  }
}

function streamBytes(bytes: Uint8Array): ReadableStream<Uint8Array> {
  let left = bytes;
  return createByteStream({
    async read(view) {
      const part = left.subarray(0, view.byteLength);
      view.set(part);
      left = left.subarray(part.byteLength);
      return part.byteLength;
    },
    async close() {},
  });
}

/** Limits the rate from now on: idle time is not made up for. */
export function createRateLimiter(
  bytesPerSecond: number,
  options: {
    /** Ends a wait, which then throws. */
    readonly signal?: AbortSignal | undefined;
    /** Whether a wait keeps the process alive. */
    readonly ref?: boolean | undefined;
  } = {},
): (bytes: number) => Promise<void> {
  let dueAt = performance.now();
  return async bytes => {
    const now = performance.now();
    dueAt = Math.max(dueAt, now - MAX_LATE_MS) + (bytes / bytesPerSecond) * 1000;
    if (dueAt - now > 1) await setTimeout(dueAt - now, undefined, options);
  };
}

/** How far a slow disk may fall behind. */
const MAX_LATE_MS = 100;
