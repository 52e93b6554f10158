// Shell patterns of ${V#p}, ${V%p} and ${V/p/r}: `*` and `?`, which match no line break, and escaped characters. Between two stars the
// first match is always right, so there is no backtracking: matching is at most the product of both lengths.
import type { Work } from '../work.ts';
import { InvalidSyntax, quote } from './container-file.ts';

/** Which of all matches from one position to take. */
type Reach = 'shortest' | 'longest';
/** A character, or any one of a line. */
type Token = { readonly literal: string } | { readonly any: true };
/** The parts between stars: the first is at the start of the match, the last at its end. At least one; each may be empty. */
type Pattern = readonly (readonly Token[])[];

interface TrimOptions {
  readonly reach: Reach;
  readonly work: Work;
}

/** The value without the matching prefix. Throws InvalidSyntax for an unknown escape, or WorkLimitExceeded. */
export function trimStart(value: string, pattern: string, options: TrimOptions): string {
  return trim([...value], parsePattern(pattern, options.work), options).join('');
}

/** The same for a suffix. */
export function trimEnd(value: string, pattern: string, options: TrimOptions): string {
  const backwards = parsePattern(pattern, options.work)
    .map(part => part.toReversed())
    .reverse();
  return trim([...value].reverse(), backwards, options)
    .reverse()
    .join('');
}

function trim(value: string[], pattern: Pattern, { reach, work }: TrimOptions): string[] {
  work.spend(value.length);
  const end = findEnd(value, 0, { pattern, reach, work });
  return end === undefined ? value : value.slice(end);
}

/** The value with the first longest match replaced, or all of them. Throws as `trimStart` does. */
export function replacePattern(
  value: string,
  text: string,
  {
    replacement,
    all,
    work,
  }: {
    readonly replacement: string;
    /** Every match, not just the first. */
    readonly all: boolean;
    readonly work: Work;
  },
): string {
  const [chars, pattern] = [[...value], parsePattern(text, work)];
  work.spend(chars.length);
  const out: string[] = [];
  let isDone = false;
  let lastEnd = -1;
  for (let at = 0; at <= chars.length; ) {
    const end = isDone ? undefined : findEnd(chars, at, { pattern, reach: 'longest', work });
    const isMatch = end !== undefined && !(end === at && at === lastEnd);
    if (isMatch) {
      work.spend(replacement.length);
      out.push(replacement);
      isDone = !all;
      lastEnd = end;
    }
    if (!isMatch || end === at) out.push(chars[at++] ?? '');
    else at = end;
  }
  return out.join('');
}

type Value = readonly string[];

/** Where a match that starts at `start` ends; undefined where there is none. */
function findEnd(
  value: Value,
  start: number,
  { pattern, reach, work }: TrimOptions & { readonly pattern: Pattern },
): number | undefined {
  const [first = [], ...others] = pattern;
  let at = matchAt(value, start, { part: first, work });
  for (const [i, part] of others.entries()) {
    if (at === undefined) return undefined;
    const isFurthest = reach === 'longest' && i === others.length - 1;
    at = isFurthest ? findLast(value, at, { part, work }) : findFirst(value, at, { part, work });
  }
  return at;
}

interface Part {
  readonly part: readonly Token[];
  readonly work: Work;
}

/** The end of the part if it matches here; undefined otherwise. */
function matchAt(value: Value, start: number, { part, work }: Part): number | undefined {
  let at = start;
  for (const token of part) {
    const char = value[at];
    if (char === undefined || ('any' in token ? char === '\n' : char !== token.literal)) break;
    at += 1;
  }
  const matched = at - start;
  work.spend(matched + 1);
  return matched === part.length ? at : undefined;
}

/** The end of the part at its first match after a star. */
function findFirst(value: Value, from: number, part: Part): number | undefined {
  for (let start = from; start <= value.length; start += 1) {
    const end = matchAt(value, start, part);
    if (end !== undefined || value[start] === '\n') return end;
  }
  return undefined;
}

/** The same for the last match. */
function findLast(value: Value, from: number, part: Part): number | undefined {
  const lineEnd = value.indexOf('\n', from);
  for (let start = lineEnd < 0 ? value.length : lineEnd; start >= from; start -= 1) {
    const end = matchAt(value, start, part);
    if (end !== undefined) return end;
  }
  return undefined;
}

function parsePattern(pattern: string, work: Work): Pattern {
  work.spend(pattern.length);
  let part: Token[] = [];
  const parts = [part];
  const chars = [...pattern];
  for (let i = 0; i < chars.length; i += 1) {
    const char = chars[i] ?? '';
    if (char === '*') {
      // Two stars in a row are one.
      if (part.length === 0 && parts.length > 1) continue;
      part = [];
      parts.push(part);
    } else if (char === '?') part.push({ any: true });
    else if (char !== '\\') part.push({ literal: char });
    else {
      i += 1;
      const escaped = chars[i] ?? '';
      if (!'*?\\}/'.includes(escaped) || escaped === '') {
        throw new InvalidSyntax(
          `the pattern ${quote(pattern)} escapes what need not be; only * ? \\ } / can be escaped`,
        );
      }
      part.push({ literal: escaped });
    }
  }
  return parts;
}
