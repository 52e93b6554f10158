// Digests: the identity of bytes. image-spec descriptor.md, "Digests".
import { createHash, type Hash } from 'node:crypto';
import { RegistryError } from './errors.ts';

declare const brand: unique symbol;

/** `<algorithm>:<hex>` of a registered algorithm, checked: sha256 or sha512. */
export type Digest = string & { readonly [brand]: 'Digest' };

const HEX_LENGTHS = { sha256: 64, sha512: 128 } as const;

export type DigestAlgorithm = keyof typeof HEX_LENGTHS;

const DIGEST = /^(sha256):[0-9a-f]{64}$|^(sha512):[0-9a-f]{128}$/;

/** Throws DIGEST_INVALID for anything but lower-case hex of the right length under a registered algorithm. */
export function parseDigest(text: string): Digest {
  if (!isDigest(text)) {
    throw new RegistryError(
      'DIGEST_INVALID',
      `not a digest: "${text.slice(0, 160)}"; expected sha256:<64 hex> or sha512:<128 hex>`,
    );
  }
  return text;
}

export function isDigest(text: string): text is Digest {
  return DIGEST.test(text);
}

export function digestOf(bytes: Uint8Array, algorithm: DigestAlgorithm = 'sha256'): Digest {
  return encodeDigest(algorithm, createHash(algorithm).update(bytes));
}

/** The digest of all that `hash` has seen; ends the hash. */
export function encodeDigest(algorithm: DigestAlgorithm, hash: Hash): Digest {
  return parseDigest(`${algorithm}:${hash.digest('hex')}`);
}

export function isDigestAlgorithm(text: string): text is DigestAlgorithm {
  return Object.hasOwn(HEX_LENGTHS, text);
}

export function digestAlgorithm(digest: Digest): DigestAlgorithm {
  return digest.startsWith('sha512:') ? 'sha512' : 'sha256';
}

/** The hex part alone, for file names: it holds nothing but [0-9a-f]. */
export function digestHex(digest: Digest): string {
  return digest.slice(digest.indexOf(':') + 1);
}
