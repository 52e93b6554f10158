// Verification while streaming: content that does not match its descriptor never reaches the reader whole.
import { createHash } from 'node:crypto';
import { type Digest, digestAlgorithm, encodeDigest } from './digest.ts';

/** The expected content. `size` in bytes; absent where unknown. */
export interface Expected {
  readonly digest: Digest;
  readonly size?: number | undefined;
}

/** Content that is not the expected one: another digest or size. */
export class ContentMismatch extends Error {
  override readonly name = 'ContentMismatch';
}

/** Counts and hashes the bytes passed to it. */
export interface Verifier {
  readonly size: number;
  /** Throws ContentMismatch as soon as there are more bytes than expected. */
  update(chunk: Uint8Array): void;
  /** Throws ContentMismatch unless the bytes are exactly the expected ones. Call once, at the end. */
  finish(): void;
}

/** `onWrong` is called with the error before it is thrown. */
export function createVerifier(expected: Expected, onWrong: (error: ContentMismatch) => void = () => {}): Verifier {
  const algorithm = digestAlgorithm(expected.digest);
  const hash = createHash(algorithm);
  let size = 0;

  function refuse(reason: string): never {
    const error = new ContentMismatch(`${expected.digest}: ${reason}`);
    onWrong(error);
    throw error;
  }

  return {
    get size() {
      return size;
    },
    update(chunk) {
      size += chunk.byteLength;
      if (expected.size !== undefined && size > expected.size) {
        refuse(`more than the expected ${expected.size} bytes`);
      }
      hash.update(chunk);
    },
    finish() {
      if (expected.size !== undefined && size !== expected.size) {
        refuse(`${size} bytes instead of the expected ${expected.size}`);
      }
      const actual = encodeDigest(algorithm, hash);
      if (actual !== expected.digest) {
        refuse(`the bytes have digest ${actual}`);
      }
    },
  };
}

/** Throws ContentMismatch unless `bytes` are the expected ones. */
export function verifyBytes(bytes: Uint8Array, expected: Expected): void {
  const verifier = createVerifier(expected);
  verifier.update(bytes);
  verifier.finish();
}
