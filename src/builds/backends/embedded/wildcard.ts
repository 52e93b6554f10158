// Wildcards of COPY and ADD: those of Go's filepath.Match, where `*` and `?` stay within one component.

import type { Work } from '../../work.ts';
import type { DirectoryNode, Node } from './node.ts';
import { findNode, followPath, type Path, splitPath } from './path.ts';
import { InvalidStep } from './step.ts';

/** `*`, or what one character has to be. */
type Token = 'any' | ((char: string) => boolean);
type Pattern = readonly Token[];

/** The paths that a source means: itself, if it has no wildcard, else what matches; nothing below of what matches does. */
export async function findMatches(root: DirectoryNode, source: string, work: Work): Promise<readonly Path[]> {
  const path = splitPath(source);
  const first = path.findIndex(hasWildcard);
  if (first < 0) return [path];
  const base = followPath(root, path.slice(0, first));
  const patterns = path.slice(first).map(parsePattern);
  const start = findNode(root, base);
  const found = start ? await matchBelow(start, patterns, work) : [];
  return found.map(path => [...base, ...path]);
}

export function hasWildcard(text: string): boolean {
  return /[*?[]/.test(text.replaceAll(/\\./gs, ''));
}

async function matchBelow(node: Node, [pattern, ...rest]: readonly Pattern[], work: Work): Promise<readonly Path[]> {
  if (!pattern) return [[]];
  if (node.kind !== 'directory') return [];
  const found: Path[] = [];
  for (const [name, child] of [...node.children].sort(([a], [b]) => (a < b ? -1 : 1))) {
    await work.rest();
    if (!(await isMatch([...name], pattern, work))) continue;
    for (const path of await matchBelow(child, rest, work)) found.push([name, ...path]);
  }
  return found;
}

/** Only the last `*` is ever tried anew: what an earlier one took more would help nothing. */
async function isMatch(name: readonly string[], pattern: Pattern, work: Work): Promise<boolean> {
  let [at, token, star, retry] = [0, 0, -1, 0];
  while (at < name.length) {
    const current = pattern[token];
    work.spend(1);
    if (current === 'any') {
      [star, retry] = [token, at];
      token += 1;
    } else if (current?.(name[at] ?? '')) {
      at += 1;
      token += 1;
    } else if (star >= 0) {
      await work.rest();
      retry += 1;
      [at, token] = [retry, star + 1];
    } else return false;
  }
  return pattern.slice(token).every(rest => rest === 'any');
}

function parsePattern(text: string): Pattern {
  const tokens: Token[] = [];
  const chars = [...text];
  for (let i = 0; i < chars.length; i += 1) {
    const char = chars[i] ?? '';
    if (char === '*') tokens.push('any');
    else if (char === '?') tokens.push(() => true);
    else if (char === '[') {
      const { test, end } = parseClass(chars, i);
      tokens.push(test);
      i = end;
    } else {
      if (char === '\\') i += 1;
      const literal = chars[i];
      tokens.push(other => other === literal);
    }
  }
  return tokens;
}

/** `[a-z]` or `[^a-z]`, from its bracket on. */
function parseClass(
  chars: readonly string[],
  start: number,
): { readonly test: (char: string) => boolean; readonly end: number } {
  const isNegated = chars[start + 1] === '^';
  const ranges: (readonly [low: string, high: string])[] = [];
  let at = start + (isNegated ? 2 : 1);
  const read = (): string => {
    if (chars[at] === '\\') at += 1;
    const char = chars[at++];
    if (char !== undefined) return char;
    throw new InvalidStep(`the pattern ${JSON.stringify(chars.join(''))} has a "[" without its "]"`);
  };
  while (ranges.length === 0 || chars[at] !== ']') {
    const low = read();
    if (chars[at] !== '-') ranges.push([low, low]);
    else {
      at += 1;
      ranges.push([low, read()]);
    }
  }
  return { test: char => ranges.some(([low, high]) => low <= char && char <= high) !== isNegated, end: at };
}
