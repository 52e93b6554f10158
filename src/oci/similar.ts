// What a misspelt word may have meant.
import { closest, distance } from 'fastest-levenshtein';

const MAX_LENGTH = 40;

/** The known word that is nearest, if any is near enough to be meant. */
export function findSimilar(word: string, known: readonly string[]): string | undefined {
  if (known.length === 0 || word.length > MAX_LENGTH) return undefined;
  const nearest = closest(word, known);
  return distance(word, nearest) <= Math.max(1, nearest.length / 3) ? nearest : undefined;
}
