// The options of `veneer token create`, checked while they are read. Each parser throws InvalidArgumentError, which the command line shows.
import { InvalidArgumentError } from 'commander';
import { findPatternFault } from '../access/right.ts';
import { duration } from '../config/values.ts';

const MIN_TTL_MS = 60_000;
const NAME = /^[\w.@ -]{1,64}$/;

/** For an option that may be there several times. */
export function collectPatterns(pattern: string, before: readonly string[] = []): readonly string[] {
  const fault = findPatternFault(pattern);
  if (fault !== undefined) throw new InvalidArgumentError(fault);
  return [...before, pattern];
}

/** In milliseconds, from a minute to ten years. */
export function parseTtl(text: string): number {
  const { data, error } = duration({ minMs: MIN_TTL_MS }).safeParse(text);
  if (data !== undefined) return data;
  throw new InvalidArgumentError(error?.issues[0]?.message ?? 'expected a duration');
}

export function parseName(text: string): string {
  if (NAME.test(text)) return text;
  throw new InvalidArgumentError('expected at most 64 letters, digits, spaces and any of . _ @ -');
}
