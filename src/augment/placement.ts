// How a layer's entries are placed on an image: below a directory that the image has as a link they go to where the link leads, as COPY puts
// them. Put there as they are, they would hide the link, and with it all that it leads to.
import { z } from 'zod';
import { type IndexEntry, joinPath, parentOf } from './layer-index.ts';

/** Paths are as an index has them. */
export const placementSchema = z.object({
  /** The directories of the layer that are links in the image, with where these lead; of nested ones the deepest counts. */
  moves: z.array(z.object({ from: z.string(), to: z.string() })).readonly(),
  /** What the image has on the way to there, as it has it: with none of these in the layer, engines would make them anew. */
  directories: z
    .array(z.object({ path: z.string(), mode: z.int(), uid: z.int(), gid: z.int(), mtime: z.int() }))
    .readonly(),
});

export type Placement = z.infer<typeof placementSchema>;

/** For people: names are most often UTF-8. */
export function readable(path: string): string {
  return Buffer.from(path, 'latin1').toString('utf8');
}

export interface Mapper {
  /** The new path; undefined for a directory that is the link's own place, which the image has already. */
  map(path: string, kind: IndexEntry['kind']): string | undefined;
}

export function createMapper({ moves, directories }: Placement): Mapper {
  const targets = new Map(moves.map(({ from, to }) => [from, to]));
  const present = new Set(directories.map(({ path }) => path));

  /** By the nearest of what is above that moves. */
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
