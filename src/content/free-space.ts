// Room on the disk for content that is on its way. Whoever cannot be promised room does without the disk from the start, where a full
// disk half way would cut off its readers.
import { statfs } from 'node:fs/promises';
import { BeyondBudget, NoRoom } from './no-room.ts';

/** Room that others are not promised until it is released. */
export interface SpaceClaim {
  /** Throws NoRoom where the disk has not all the room that is claimed. A claim of nothing is always granted. */
  ensure(): Promise<void>;
  /** Called before there are so many bytes. Throws NoRoom where they are more than was claimed, and there is no room for more. */
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

/** Content that nobody knows the size of is looked at again each time that so much has come. */
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
        throw new BeyondBudget(`${size} bytes of an unknown size have come, and ${free} are free`);
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
        throw new NoRoom(`${free} bytes are free, ${claimed} are to come, and ${reserve} stay for records`);
      },
      release() {
        for (const each of groups) each.claimed -= bytes;
      },
    };
  };
}
