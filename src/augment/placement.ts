// Moves a layer's entries to fit an image: where the image has a link in place of a directory, entries below it go to the link's target, as
// with COPY. Applied unchanged, they would replace the link and hide everything it leads to.
import { z } from 'zod';
import { type IndexEntry, joinPath, parentOf } from './layer-index.ts';

/** Paths as in a layer index. */
export const placementSchema = z.object({
  /** Directories of the layer that are links in the image, with their targets; of nested ones the deepest counts. */
  moves: z.array(z.object({ from: z.string(), to: z.string() })).readonly(),
  /**
   * The image's directories on the way to the targets, with their attributes: without them in the layer, engines would recreate them with
   * defaults.
   */
  directories: z
    .array(z.object({ path: z.string(), mode: z.int(), uid: z.int(), gid: z.int(), mtime: z.int() }))
    .readonly(),
});

export type Placement = z.infer<typeof placementSchema>;

/** For display: names are usually UTF-8. */
export function readable(path: string): string {
  return Buffer.from(path, 'latin1').toString('utf8');
}

export interface Mapper {
  /** The new path; undefined for a directory at the link itself, which the image already has. */
  map(path: string, kind: IndexEntry['kind']): string | undefined;
}

export function createMapper({ moves, directories }: Placement): Mapper {
  const targets = new Map(moves.map(({ from, to }) => [from, to]));
  const present = new Set(directories.map(({ path }) => path));

  /** Follows the nearest moved parent. */
  function mapBelow(path: string): string {
    for (let above = parentOf(path); above !== ''; above = parentOf(above)) {
      const to = targets.get(above);
      if (to !== undefined) return joinPath(to, path.slice(above.length + 1));
    }
    return path;
  }

  return {
    map(path, kind) {
      const to = kind === 'directory' || kind === 'opaque' ? targets.get(path) : undefined;
      if (to === undefined) return mapBelow(path);
      return kind === 'directory' && (to === '' || present.has(to)) ? undefined : to;
    },
  };
}
