// Verification while streaming: bytes that do not fit their descriptor never reach the reader whole.
import { createHash } from 'node:crypto';
import { type Digest, digestAlgorithm, encodeDigest } from './digest.ts';

/** What a body was promised to be. `size` in bytes; absent where the sender did not say. */
export interface Expected {
  readonly digest: Digest;
  readonly size?: number | undefined;
}

/** The bytes are not the promised ones: another digest, or more or fewer of them. */
export class ContentMismatch extends Error {
  override readonly name = 'ContentMismatch';
}

/** Counts and hashes what passes through. */
export interface Verifier {
  readonly size: number;
  /** Throws ContentMismatch as soon as there are more bytes than promised. */
  update(chunk: Uint8Array): void;
  /** Throws ContentMismatch unless all bytes seen are exactly the promised ones. Call once, at the end. */
  finish(): void;
}

export function createVerifier(expected: Expected): Verifier {
  const algorithm = digestAlgorithm(expected.digest);
  const hash = createHash(algorithm);
  let size = 0;
  return {
    get size() {
      return size;
    },
    update(chunk) {
      size += chunk.byteLength;
      if (expected.size !== undefined && size > expected.size) {
        throw new ContentMismatch(`${expected.digest}: more than the promised ${expected.size} bytes`);
      }
      hash.update(chunk);
    },
    finish() {
      if (expected.size !== undefined && size !== expected.size) {
        throw new ContentMismatch(`${expected.digest}: ${size} bytes instead of the promised ${expected.size}`);
      }
      const actual = encodeDigest(algorithm, hash);
      if (actual !== expected.digest) {
        throw new ContentMismatch(`${expected.digest}: the bytes have digest ${actual}`);
      }
    },
  };
}

/** Throws ContentMismatch unless `bytes` are what was promised. */
export function verifyBytes(bytes: Uint8Array, expected: Expected): void {
  const verifier = createVerifier(expected);
  verifier.update(bytes);
  verifier.finish();
}
