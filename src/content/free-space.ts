// Room on the disk for content that is on its way. Whoever cannot be promised room does without the disk from the start, where a full
// disk half way would cut off its readers.
import { statfs } from 'node:fs/promises';
import { NoRoom } from './no-room.ts';

/** Room that others are not promised until it is released. */
export interface SpaceClaim {
  /** Throws NoRoom where the disk has not all the room that is claimed. A claim of nothing is always granted. */
  ensure(): Promise<void>;
  release(): void;
}

/** What content leaves free for small things, which must go on: records above all. */
const RESERVE_BYTES = 64 * 1024 * 1024;
/** Content up to this size counts as small. It leaves as much for records. */
const SMALL_BYTES = 4 * 1024 * 1024;

/** Claims on the file system of `directory`. A file that is half written counts whole: too few claims are granted rather than too many. */
export function createFreeSpace(directory: string): (bytes: number) => SpaceClaim {
  const all = { claimed: 0, reserve: RESERVE_BYTES };
  const small = { claimed: 0, reserve: SMALL_BYTES };
  return bytes => {
    const group = bytes <= SMALL_BYTES ? small : all;
    const groups = new Set([all, group]);
    for (const each of groups) each.claimed += bytes;
    return {
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
