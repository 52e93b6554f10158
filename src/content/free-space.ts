// Reserves disk space for incoming content. Content that cannot get a reservation bypasses the disk from the start: a disk that filled up
// half-way would cut off its readers.
import { statfs } from 'node:fs/promises';
import { LRUCache } from 'lru-cache';
import type { Digest } from '../oci/digest.ts';
import type { Expected } from '../oci/verify.ts';

/** Space reserved until it is released. */
export interface SpaceClaim {
  /** Throws DiskFull where the disk has less than all reservations. A reservation of nothing is always granted. */
  ensure(): Promise<void>;
  /**
   * Called before the content grows to this many bytes. Throws DiskFull where they exceed the reservation, and the disk has no more space.
   */
  grow(size: number): Promise<void> | undefined;
  release(): void;
}

/** The size of incoming content. */
export interface Need {
  /** As far as it is known. */
  readonly bytes: number;
  /** Whether that is the full size. */
  readonly isExact: boolean;
}

/** Space left free for small writes, above all records. */
const RESERVE_BYTES = 64 * 1024 * 1024;
/** Content up to this size counts as small. It also leaves the reserve for records. */
const SMALL_BYTES = 4 * 1024 * 1024;

/** With this much to spare, the disk is not full a moment later. If others fill it meanwhile, a write fails. */
const PLENTY_BYTES = 1024 ** 3;
const MOMENT_MS = 1_000;

/** For content of unknown size, free space is checked again after each such amount. */
const STEP_BYTES = 8 * 1024 * 1024;

/** Reservations on the file system of `directory`. A half-written file counts in full: this rather refuses too many than too few. */
export function createFreeSpace(directory: string): (bytes: number) => SpaceClaim {
  const all = { claimed: 0, reserve: RESERVE_BYTES };
  const small = { claimed: 0, reserve: SMALL_BYTES };
  /** For small content, by the monotonic clock. */
  let plentyUntil = 0;
  return bytes => {
    const group = bytes <= SMALL_BYTES ? small : all;
    const groups = new Set([all, group]);
    for (const each of groups) each.claimed += bytes;
    let granted = Math.max(bytes, STEP_BYTES);

    /** Content of unknown size must leave as much space as it has taken: it may never end, and must not fill the disk. */
    async function ensureMore(size: number): Promise<void> {
      const { bavail, bsize, blocks } = await statfs(directory);
      const free = bavail * bsize;
      if (blocks !== 0 && free < all.claimed + all.reserve + size) {
        throw new OverBudget(`${size} bytes of content of unknown size were received, and ${free} are free`);
      }
      granted = size + STEP_BYTES;
    }

    return {
      grow: size => (size > granted ? ensureMore(size) : undefined),
      async ensure() {
        if (bytes === 0 || (group === small && all.claimed < PLENTY_BYTES && performance.now() < plentyUntil)) return;
        const { bavail, bsize, blocks } = await statfs(directory);
        const free = bavail * bsize;
        const { claimed, reserve } = group;
        if (free >= 2 * PLENTY_BYTES) plentyUntil = performance.now() + MOMENT_MS;
        // File systems without a fixed size report 0.
        if (blocks === 0 || free >= claimed + reserve) return;
        throw new DiskFull(
          `${free} bytes are free, ${claimed} are reserved for incoming content, and ${reserve} for records`,
        );
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

/** The budget for this kind of content is used up: more disk space would not help. */
export class OverBudget extends DiskFull {
  override readonly name = 'OverBudget';
}

export function isOverBudget(error: unknown): boolean {
  return error instanceof Error && (error instanceof OverBudget || isOverBudget(error.cause));
}

const CODES: readonly unknown[] = ['ENOSPC', 'EDQUOT'];

/** Whether the error, or one of its causes, is a full disk, which freeing space can fix. */
export function isDiskFull(error: unknown): boolean {
  return error instanceof Error && (('code' in error && CODES.includes(error.code)) || isDiskFull(error.cause));
}

/**
 * The least size of content of unknown size: how much had arrived when the disk was full. The next try bypasses the disk from the start.
 */
interface SizeHints {
  /** How many bytes the content needs, as far as known. */
  needOf(expected: Expected | undefined): number;
  /** The disk was full after this many bytes of it. */
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
