// Shell patterns of ${V#p}, ${V%p} and ${V/p/r}: `*` and `?`, which match no line break, and escaped characters. Every end of a match is
// followed at once, as an automaton does, so that no pattern can make it slow beyond the product of both lengths.
import type { Work } from '../work.ts';
import { InvalidSyntax, quote } from './invalid.ts';

/** Which of all matches from one place counts. */
type Reach = 'shortest' | 'longest';
type Token = { readonly any: 'one' | 'many' } | { readonly literal: string };

interface TrimOptions {
  readonly reach: Reach;
  readonly work: Work;
}

/** The value without the part at its start that the pattern matches. Throws InvalidSyntax for an unknown escape, or TooMuchWork. */
export function trimStart(value: string, pattern: string, options: TrimOptions): string {
  return trim([...value], parsePattern(pattern), options).join('');
}

/** The same at its end. */
export function trimEnd(value: string, pattern: string, options: TrimOptions): string {
  return trim([...value].reverse(), parsePattern(pattern).toReversed(), options)
    .reverse()
    .join('');
}

function trim(value: string[], tokens: readonly Token[], { reach, work }: TrimOptions): string[] {
  work.spend(value.length + tokens.length);
  const end = findEnd(value, 0, { tokens, reach, work });
  return end === undefined ? value : value.slice(end);
}

export interface ReplaceOptions {
  readonly replacement: string;
  /** Each match, and not the first alone. */
  readonly all: boolean;
  readonly work: Work;
}

/** The value with the first longest match replaced, or all of them. Throws as `trimStart` does. */
export function replacePattern(value: string, pattern: string, { replacement, all, work }: ReplaceOptions): string {
  const [chars, tokens] = [[...value], parsePattern(pattern)];
  work.spend(chars.length + tokens.length);
  const out: string[] = [];
  let isDone = false;
  let lastEnd = -1;
  for (let at = 0; at <= chars.length; ) {
    const end = isDone ? undefined : findEnd(chars, at, { tokens, reach: 'longest', work });
    const isMatch = end !== undefined && !(end === at && at === lastEnd);
    if (isMatch) {
      out.push(replacement);
      isDone = !all;
      lastEnd = end;
    }
    if (!isMatch || end === at) out.push(chars[at++] ?? '');
    else at = end;
  }
  return out.join('');
}

type FindOptions = TrimOptions & { readonly tokens: readonly Token[] };

/** Where a match that starts at `start` ends; undefined where there is none. */
function findEnd(value: readonly string[], start: number, { tokens, reach, work }: FindOptions): number | undefined {
  let ends = new Set([start]);
  for (const token of tokens) {
    work.spend(ends.size);
    ends = step(value, ends, { token, work });
    if (ends.size === 0) return undefined;
  }
  const pick = reach === 'shortest' ? Math.min : Math.max;
  return [...ends].reduce((a, b) => pick(a, b));
}

function step(
  value: readonly string[],
  ends: ReadonlySet<number>,
  { token, work }: { readonly token: Token; readonly work: Work },
): Set<number> {
  const next = new Set<number>();
  for (const end of ends) {
    if ('literal' in token) {
      if (value[end] === token.literal) next.add(end + 1);
    } else if (token.any === 'one') {
      if (isAny(value[end])) next.add(end + 1);
    } else {
      let at = end;
      // What another end has reached, it has continued from already.
      while (!next.has(at)) {
        work.spend(1);
        next.add(at);
        if (isAny(value[at])) at += 1;
      }
    }
  }
  return next;
}

function isAny(char: string | undefined): boolean {
  return char !== undefined && char !== '\n';
}

function isMany(token: Token | undefined): boolean {
  return token !== undefined && 'any' in token && token.any === 'many';
}

function parsePattern(pattern: string): readonly Token[] {
  const tokens: Token[] = [];
  const chars = [...pattern];
  for (let i = 0; i < chars.length; i += 1) {
    const char = chars[i] ?? '';
    if (char === '*' || char === '?') {
      // Two stars in a row are one.
      if (char === '?' || !isMany(tokens.at(-1))) tokens.push({ any: char === '*' ? 'many' : 'one' });
    } else if (char !== '\\') tokens.push({ literal: char });
    else {
      i += 1;
      const escaped = chars[i] ?? '';
      if (!'*?\\}/'.includes(escaped) || escaped === '') {
        throw new InvalidSyntax(
          `the pattern ${quote(pattern)} escapes what need not be; only * ? \\ } / can be escaped`,
        );
      }
      tokens.push({ literal: escaped });
    }
  }
  return tokens;
}
