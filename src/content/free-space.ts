// Space on the disk for content on its way in. What cannot be promised space does without the disk from the start, as a disk that fills up half
// way would cut off its readers.
import { statfs } from 'node:fs/promises';
import { LRUCache } from 'lru-cache';
import type { Digest } from '../oci/digest.ts';
import type { Expected } from '../oci/verify.ts';

/** Space that is promised to nobody else until it is released. */
export interface SpaceClaim {
  /** Throws DiskFull where the disk has less than all claims. A claim of nothing is always granted. */
  ensure(): Promise<void>;
  /** Called before there are so many bytes. Throws DiskFull where they are more than was claimed, and there is no space for more. */
  grow(size: number): Promise<void> | undefined;
  release(): void;
}

/** What content will take. */
export interface Need {
  /** As far as it is known. */
  readonly bytes: number;
  /** Whether that is all of it. */
  readonly isExact: boolean;
}

/** What content leaves free for small things, which must go on: records above all. */
const RESERVE_BYTES = 64 * 1024 * 1024;
/** Content up to this size counts as small. It leaves as much for records. */
const SMALL_BYTES = 4 * 1024 * 1024;

/** For content of unknown size, the free space is looked at again each time so much has come. */
const STEP_BYTES = 8 * 1024 * 1024;

/** Claims on the file system of `directory`. A file that is half written counts whole: too few claims are granted rather than too many. */
export function createFreeSpace(directory: string): (bytes: number) => SpaceClaim {
  const all = { claimed: 0, reserve: RESERVE_BYTES };
  const small = { claimed: 0, reserve: SMALL_BYTES };
  return bytes => {
    const group = bytes <= SMALL_BYTES ? small : all;
    const groups = new Set([all, group]);
    for (const each of groups) each.claimed += bytes;
    let granted = Math.max(bytes, STEP_BYTES);

    /** It leaves as much as it has taken: what may never end must not fill the disk. */
    async function ensureMore(size: number): Promise<void> {
      const { bavail, bsize, blocks } = await statfs(directory);
      const free = bavail * bsize;
      if (blocks !== 0 && free < all.claimed + all.reserve + size) {
        throw new OverBudget(`${size} bytes of an unknown size have come, and ${free} are free`);
      }
      granted = size + STEP_BYTES;
    }

    return {
      grow: size => (size > granted ? ensureMore(size) : undefined),
      async ensure() {
        if (bytes === 0) return;
        const { bavail, bsize, blocks } = await statfs(directory);
        const free = bavail * bsize;
        const { claimed, reserve } = group;
        // A file system without a size of its own says 0.
        if (blocks === 0 || free >= claimed + reserve) return;
        throw new DiskFull(`${free} bytes are free, ${claimed} are to come, and ${reserve} stay for records`);
      },
      release() {
        for (const each of groups) each.claimed -= bytes;
      },
    };
  };
}

/** With the code that the file system uses. */
class DiskFull extends Error {
  override readonly name: string = 'DiskFull';
  readonly code = 'ENOSPC';
}

/** The budget for content of its kind is used up: more space on the disk would not help. */
export class OverBudget extends DiskFull {
  override readonly name = 'OverBudget';
}

export function isOverBudget(error: unknown): boolean {
  return error instanceof Error && (error instanceof OverBudget || isOverBudget(error.cause));
}

const CODES: readonly unknown[] = ['ENOSPC', 'EDQUOT'];

/** Whether the cause is a disk without space, which freeing some can mend. Looks at causes, too. */
export function isDiskFull(error: unknown): boolean {
  return error instanceof Error && (('code' in error && CODES.includes(error.code)) || isDiskFull(error.cause));
}

/** How large content of unknown size is at least: what had come of it when the disk was full. Its next try does without the disk from the start. */
interface SizeHints {
  /** How many bytes content needs, as far as is known. */
  needOf(expected: Expected | undefined): number;
  /** The disk was full after so many bytes of it. */
  note(expected: Expected | undefined, bytes: number): void;
}

const MAX_NOTED = 1_000;

export function createSizeHints(): SizeHints {
  const noted = new LRUCache<Digest, number>({ max: MAX_NOTED });
  const needOf: SizeHints['needOf'] = expected => (expected ? (expected.size ?? noted.get(expected.digest) ?? 0) : 0);
  return {
    needOf,
    note(expected, bytes) {
      if (expected && expected.size === undefined && bytes > needOf(expected)) noted.set(expected.digest, bytes);
    },
  };
}
