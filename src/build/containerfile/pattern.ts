// Shell patterns of ${V#p}, ${V%p} and ${V/p/r}: `*` and `?`, which match no line break, and escaped characters. Every end of a match is
// followed at once, as an automaton does, so that no pattern can make it slow beyond the product of both lengths.
import { InvalidSyntax, quote } from './invalid.ts';

/** Which of all matches from one place counts. */
type Reach = 'shortest' | 'longest';
type Token = { readonly any: 'one' | 'many' } | { readonly literal: string };

/** Of pattern and value lengths, multiplied. */
const MAX_WORK = 64 * 1024 * 1024;

/** The value without the part at its start that the pattern matches. Throws InvalidSyntax for a pattern with an unknown escape. */
export function trimStart(value: string, pattern: string, reach: Reach): string {
  return trim([...value], parsePattern(pattern), reach).join('');
}

/** The same at its end. */
export function trimEnd(value: string, pattern: string, reach: Reach): string {
  return trim([...value].reverse(), parsePattern(pattern).toReversed(), reach)
    .reverse()
    .join('');
}

function trim(value: string[], tokens: readonly Token[], reach: Reach): string[] {
  checkWork(value.length, tokens.length);
  const end = findEnd(value, 0, tokens, reach);
  return end === undefined ? value : value.slice(end);
}

/** The value with the first longest match replaced, or all of them. */
export function replacePattern(value: string, pattern: string, replacement: string, all: boolean): string {
  const [chars, tokens] = [[...value], parsePattern(pattern)];
  const hasMany = tokens.some(token => 'any' in token && token.any === 'many');
  checkWork(hasMany ? chars.length ** 2 : chars.length, tokens.length);
  const out: string[] = [];
  let isDone = false;
  let lastEnd = -1;
  for (let at = 0; at <= chars.length; ) {
    const end = isDone ? undefined : findEnd(chars, at, tokens, 'longest');
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

/** Where a match that starts at `start` ends; undefined where there is none. */
function findEnd(value: readonly string[], start: number, tokens: readonly Token[], reach: Reach): number | undefined {
  let ends = new Set([start]);
  for (const token of tokens) {
    ends = step(value, ends, token);
    if (ends.size === 0) return undefined;
  }
  const pick = reach === 'shortest' ? Math.min : Math.max;
  return [...ends].reduce((a, b) => pick(a, b));
}

function step(value: readonly string[], ends: ReadonlySet<number>, token: Token): Set<number> {
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

function parsePattern(pattern: string): readonly Token[] {
  const tokens: Token[] = [];
  const chars = [...pattern];
  for (let i = 0; i < chars.length; i += 1) {
    const char = chars[i] ?? '';
    if (char === '*' || char === '?') tokens.push({ any: char === '*' ? 'many' : 'one' });
    else if (char !== '\\') tokens.push({ literal: char });
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

function checkWork(length: number, tokens: number): void {
  if (length * tokens > MAX_WORK) throw new InvalidSyntax('a pattern and its value are too long; shorten one of them');
}
