// Bytes that arrive in pieces: a draft grows over several requests, across a restart too, until its digest makes it content.
import { createHash, type Hash } from 'node:crypto';
import { constants, type FileHandle, open } from 'node:fs/promises';
import { type Digest, type DigestAlgorithm, digestAlgorithm, encodeDigest } from '../oci/digest.ts';
import { ContentMismatch } from '../oci/verify.ts';
import type { BlobFiles } from './blob-files.ts';
import { type BlockSums, createBlockSummer } from './block-sums.ts';
import { readChunk } from './file-stream.ts';

/** Calls on one draft must not overlap. */
export interface Draft {
  /** Bytes on disk. Until they are kept, only a crash of the machine can lose them. */
  readonly size: number;
  /** Writes `pieces` behind what is there, at the pace of the disk. What arrived before an error stays. */
  append(pieces: AsyncIterable<Uint8Array>): Promise<void>;
  /** Makes the draft content, durable when it resolves. Throws ContentMismatch for other bytes, and the draft is as it was. */
  keep(expected: Digest): Promise<void>;
}

export interface DraftOptions {
  readonly path: string;
  /** Bytes that the file has already. */
  readonly size: number;
  /** What the bytes are hashed with while they arrive. Any other is computed from the file. */
  readonly algorithm: DigestAlgorithm;
  readonly files: Pick<BlobFiles, 'keep'>;
  /** Hears of the sums of what was made content, where they are known. */
  readonly onKept?: ((digest: Digest, sums: BlockSums) => void) | undefined;
}

export function createDraft({ path, size: initialSize, algorithm, files, onKept }: DraftOptions): Draft {
  let size = initialSize;
  // Of all bytes in the file; undefined where bytes are in it that passed another process.
  let hash = size === 0 ? createHash(algorithm) : undefined;
  const summer = createBlockSummer();

  async function write(file: FileHandle, pieces: AsyncIterable<Uint8Array>): Promise<void> {
    for await (const piece of pieces) {
      const written = file.writeFile(piece);
      hash?.update(piece);
      summer.update(piece);
      await written.catch(async error => {
        hash = undefined;
        size = (await file.stat()).size;
        throw error;
      });
      size += piece.byteLength;
    }
  }

  return {
    get size() {
      return size;
    },
    append: pieces => withFile(path, APPEND, file => write(file, pieces)),
    async keep(expected) {
      await withFile(path, constants.O_RDONLY, async file => {
        const wanted = digestAlgorithm(expected);
        const seen = hash && wanted === algorithm ? hash.copy() : await hashFile(file, size, wanted);
        const actual = encodeDigest(wanted, seen);
        if (actual !== expected) throw new ContentMismatch(`the ${size} bytes have digest ${actual}, not ${expected}`);
        const { size: onDisk } = await file.stat();
        if (onDisk !== size) throw new Error(`a draft of ${size} bytes has ${onDisk} on disk`);
        await file.datasync();
      });
      await files.keep(path, expected);
      if (hash) onKept?.(expected, summer.finish());
    },
  };
}

/** Not 'a', which would make a file that is gone anew. */
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

async function withFile<T>(path: string, flags: number, work: (file: FileHandle) => Promise<T>): Promise<T> {
  const file = await open(path, flags);
  try {
    return await work(file);
  } finally {
    await file.close();
  }
}
