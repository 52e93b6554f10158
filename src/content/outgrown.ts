// Content that ran out of room on its way in. Nobody may have said how long it is: then what had come of it is what it needs at least, and
// its next try does without the disk from the start.
import { LRUCache } from 'lru-cache';
import type { Digest } from '../oci/digest.ts';
import type { Expected } from '../oci/verify.ts';

interface Outgrown {
  /** How many bytes of room content needs, as far as anybody knows. */
  needOf(expected: Expected | undefined): number;
  /** The disk had no room for more than so many bytes of it. */
  note(expected: Expected | undefined, bytes: number): void;
}

const MAX_NOTED = 1_000;

export function createOutgrown(): Outgrown {
  const noted = new LRUCache<Digest, number>({ max: MAX_NOTED });
  const needOf: Outgrown['needOf'] = expected => (expected ? (expected.size ?? noted.get(expected.digest) ?? 0) : 0);
  return {
    needOf,
    note(expected, bytes) {
      if (expected && expected.size === undefined && bytes > needOf(expected)) noted.set(expected.digest, bytes);
    },
  };
}
