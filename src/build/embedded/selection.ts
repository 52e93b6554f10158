// Which files of a source a COPY takes: patterns of .dockerignore's kind that leave out (--exclude), or that are meant (--parents).
import dockerignore from '@balena/dockerignore';
import { InvalidStep } from './step.ts';

export interface Selection {
  /** Whether the path, below the source, is taken; one that is not may still have children that are. */
  takes(path: string): boolean;
  /** Whether something below a directory that is not taken may be. */
  readonly looksBelow: boolean;
}

export const everything: Selection = { takes: () => true, looksBelow: true };

/** Throws InvalidStep for a pattern that cannot be read. */
export function createSelection(includes: readonly string[] | undefined, excludes: readonly string[]): Selection {
  const isIncluded = includes ? createMatcher(includes) : () => true;
  const isExcluded = excludes.length > 0 ? createMatcher(excludes) : () => false;
  const hasExceptions = excludes.some(pattern => pattern.trim().startsWith('!'));
  return {
    takes: path => isIncluded(path) && !isExcluded(path),
    looksBelow: includes !== undefined || hasExceptions,
  };
}

function createMatcher(patterns: readonly string[]): (path: string) => boolean {
  // The types of this CommonJS module give its function no other name.
  const rules = dockerignore.default({ ignorecase: false }).add([...patterns]);
  return path => {
    try {
      return rules.ignores(path);
    } catch (cause) {
      if (!(cause instanceof SyntaxError)) throw cause;
      throw new InvalidStep(`the patterns ${patterns.join(' ')} cannot be read`, { cause });
    }
  };
}
