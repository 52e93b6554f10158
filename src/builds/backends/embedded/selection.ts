// Which files of a source a COPY takes: patterns of .dockerignore's kind that leave out (--exclude), or that are meant (--parents).
import { createPathPatterns, InvalidPathPattern, type PathPatterns } from '../../context/path-patterns.ts';
import type { Work } from '../../work.ts';
import { InvalidStep } from './step.ts';

export interface Selection {
  /** Whether the path, below the source, is taken; one that is not may still have children that are. Rejects as PathPatterns has it. */
  takes(path: string): Promise<boolean>;
  /** Whether something below a directory that is not taken may be. */
  readonly looksBelow: boolean;
}

export const everything: Selection = { takes: async () => true, looksBelow: true };

export function createSelection(included: PathPatterns | undefined, excluded: PathPatterns): Selection {
  return {
    takes: async path => (!included || (await included.match(path))) && !(await excluded.match(path)),
    looksBelow: included !== undefined || excluded.hasExceptions,
  };
}

/** Throws InvalidStep for a pattern that cannot be read. */
export function parsePatterns(texts: readonly string[], work: Work): PathPatterns {
  try {
    return createPathPatterns(texts, work);
  } catch (cause) {
    throw cause instanceof InvalidPathPattern ? new InvalidStep(cause.message, { cause }) : cause;
  }
}
