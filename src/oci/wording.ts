// Values in readable form: sizes, and suggestions for misspelt words.
import { closest, distance } from 'fastest-levenshtein';

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

/** With at most one decimal: `512 B`, `1.5 GiB`. */
export function formatSize(bytes: number): string {
  let [size, unit] = [bytes, 0];
  while (Math.round(size) >= 1024 && unit < UNITS.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${Number(size.toFixed(1))} ${UNITS[unit]}`;
}

const MAX_LENGTH = 40;

/** The closest known word, if one is close enough. */
export function findSimilar(word: string, known: readonly string[]): string | undefined {
  if (known.length === 0 || word.length > MAX_LENGTH) return undefined;
  const nearest = closest(word, known);
  return distance(word, nearest) <= Math.ceil(nearest.length / 3) ? nearest : undefined;
}
