// The measure of bytes whose digest and size are not known yet.
import { createHash } from 'node:crypto';
import { type Digest, digestAlgorithm, encodeDigest } from '../oci/digest.ts';

/** Counts and hashes what passes, in one go. */
export interface Gauge {
  readonly size: number;
  update(chunk: Uint8Array): void;
  /** Call once, at the end. */
  digest(): Digest;
}

/** The digest is of the algorithm of the claimed one, else sha256; `check` sees each new size, and throws at a bad one. */
export function createGauge(claimed: Digest | undefined, check: (size: number) => void): Gauge {
  const algorithm = claimed === undefined ? 'sha256' : digestAlgorithm(claimed);
  const hash = createHash(algorithm);
  let size = 0;
  return {
    get size() {
      return size;
    },
    update(chunk) {
      size += chunk.byteLength;
      check(size);
      hash.update(chunk);
    },
    digest: () => encodeDigest(algorithm, hash),
  };
}
