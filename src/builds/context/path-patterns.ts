// Path patterns of docker's .dockerignore, COPY --exclude and --parents (moby/patternmatcher): Go's filepath.Match, `**` for any
// directories, and `!` for exceptions. A pattern is matched as an automaton, in at most the product of both lengths.
import { posix } from 'node:path';
import { trimSpace } from '../containerfile/scanner.ts';
import type { Work } from '../work.ts';

/** `message` names the pattern and what is wrong. */
export class InvalidPathPattern extends Error {
  override readonly name = 'InvalidPathPattern';
}

export interface PathPatterns {
  /**
   * Whether the last pattern that matches the path, or a directory above it, includes it. Rejects with WorkLimitExceeded, or as `work.rest` does.
   */
  match(path: string): Promise<boolean>;
  /** Whether something below a match may not match. */
  readonly hasExceptions: boolean;
}

/** Longer than any path that they could match. */
const MAX_CHARACTERS = 4096;
const REST_AFTER = 100;

/** Empty lines and comments have none. */
export function linesOf(ignoreFile: string): readonly string[] {
  const lines = ignoreFile.replace(/^\ufeff/, '').split('\n');
  return lines.filter(line => !line.startsWith('#'));
}

/** Throws InvalidPathPattern. */
export function createPathPatterns(texts: readonly string[], work: Work): PathPatterns {
  const patterns = texts.map(trimSpace).filter(Boolean).map(parsePattern);
  return {
    hasExceptions: patterns.some(({ isException }) => isException),
    async match(path) {
      const chars = [...path];
      let isMatch = false;
      for (const [at, { isException, tokens }] of patterns.entries()) {
        if (isException !== isMatch) continue;
        const matched = matches(tokens, chars, work);
        if (typeof matched === 'boolean' ? matched : await matched) isMatch = !isException;
        // Very many in one go would block other work.
        if (at % REST_AFTER === REST_AFTER - 1) await work.rest();
      }
      await work.rest();
      return isMatch;
    },
  };
}

interface Pattern {
  readonly isException: boolean;
  readonly tokens: readonly Token[];
}

/**
 * `name`: any characters but a slash. `rest`: anything. `directories`: nothing, or anything that ends with a slash. The others match one
 * character.
 */
type Token = 'name' | 'rest' | 'directories' | 'one' | CharacterClass | { readonly literal: string };

interface CharacterClass {
  readonly isNegated: boolean;
  readonly ranges: readonly (readonly [low: string, high: string])[];
}

/** Synchronous for short inputs; long ones yield to other work. */
function matches(tokens: readonly Token[], chars: readonly string[], work: Work): boolean | Promise<boolean> {
  const run = createRun(tokens, work);
  if (tokens.length * chars.length > MAX_AT_ONCE) return matchSlowly(run, chars, work);
  for (const char of chars) {
    if (run.isMatch && char === '/') return true;
    if (!run.advance(char)) return false;
  }
  return run.isMatch;
}

async function matchSlowly(run: Run, chars: readonly string[], work: Work): Promise<boolean> {
  for (const char of chars) {
    // A directory that matches includes everything below it.
    if (run.isMatch && char === '/') return true;
    if (!run.advance(char)) return false;
    await work.rest();
  }
  return run.isMatch;
}

const MAX_AT_ONCE = 65_536;

interface Run {
  /** Whether the input so far matches. */
  readonly isMatch: boolean;
  /** False where no further input can match. */
  advance(char: string): boolean;
}

/** A set of states, each of which is a token that may come next: at most as many as there are tokens. */
function createRun(tokens: readonly Token[], work: Work): Run {
  let states: number[] = [];
  let next: number[] = [];
  /** The round in which a state was last reached. */
  const reached = new Uint32Array(tokens.length + 1);
  let round = 1;

  function add(state: number): void {
    if (reached[state] === round) return;
    reached[state] = round;
    next.push(state);
  }

  /** The state, and those after it that need no further character. */
  function reach(state: number): void {
    let at = state;
    for (let token = tokens[at]; token === 'name' || token === 'rest' || token === 'directories'; token = tokens[at]) {
      add(at);
      at += 1;
    }
    add(at);
  }

  function step(state: number, char: string): void {
    const token = tokens[state];
    if (token === undefined) return;
    if (token === 'rest') reach(state);
    else if (token === 'name') {
      if (char !== '/') reach(state);
    } else if (token === 'directories') {
      // Continues within a name, and may end after a slash.
      add(state);
      if (char === '/') reach(state + 1);
    } else if (isOne(token, char)) reach(state + 1);
  }

  function turn(): void {
    [states, next] = [next, states];
    next.length = 0;
    round += 1;
  }

  reach(0);
  turn();
  return {
    get isMatch() {
      return reached[tokens.length] === round - 1;
    },
    advance(char) {
      work.spend(states.length);
      for (const state of states) step(state, char);
      turn();
      return states.length > 0;
    },
  };
}

function isOne(token: CharacterClass | { readonly literal: string } | 'one', char: string): boolean {
  if (token === 'one') return char !== '/';
  if ('literal' in token) return token.literal === char;
  return token.ranges.some(([low, high]) => low <= char && char <= high) !== token.isNegated;
}

function parsePattern(line: string): Pattern {
  const isException = line.startsWith('!');
  const text = clean(isException ? trimSpace(line.slice(1)) : line);
  if (isException && (text === '' || text === '/')) throw invalid(line, 'nothing follows its "!"');
  if (text.length > MAX_CHARACTERS) throw invalid(line, `it has more than ${MAX_CHARACTERS} characters`);
  return { isException, tokens: parseTokens(line, [...text]) };
}

/** Relative to the root of the context, without redundant parts. */
function clean(text: string): string {
  if (text === '') return '';
  const path = posix.normalize(text);
  return path.replace(/^\//, '').replace(/\/$/, '') || '/';
}

function parseTokens(text: string, chars: readonly string[]): readonly Token[] {
  const tokens: Token[] = [];
  let at = 0;
  while (at < chars.length) {
    const char = chars[at];
    if (char === '*') {
      const { token, end } = parseStars(chars, at);
      // Two of a kind in a row are one.
      if (tokens.at(-1) !== token) tokens.push(token);
      at = end;
    } else if (char === '[') {
      const { token, end } = parseClass(text, chars, at + 1);
      tokens.push(token);
      at = end;
    } else {
      if (char === '\\') at += 1;
      const literal = chars[at];
      if (literal === undefined) throw invalid(text, 'it ends with a "\\" that escapes nothing');
      tokens.push(char === '?' ? 'one' : { literal });
      at += 1;
    }
  }
  return tokens;
}

function parseStars(chars: readonly string[], at: number): { readonly token: Token; readonly end: number } {
  if (chars[at + 1] !== '*') return { token: 'name', end: at + 1 };
  const end = at + (chars[at + 2] === '/' ? 3 : 2);
  if (end >= chars.length) return { token: 'rest', end };
  // Docker only recognises the end of a path here.
  const isSuffix = at === 0 && end === 2 && !chars.slice(2).some(char => '*?[]\\'.includes(char));
  return { token: isSuffix ? 'rest' : 'directories', end };
}

function parseClass(text: string, chars: readonly string[], start: number) {
  const isNegated = chars[start] === '^';
  const ranges: (readonly [low: string, high: string])[] = [];
  let at = isNegated ? start + 1 : start;
  function read(): string {
    const isEscaped = chars[at] === '\\';
    if (isEscaped) at += 1;
    const char = chars[at];
    at += 1;
    if (char === undefined) throw invalid(text, 'it has a "[" without its "]"');
    if (!isEscaped && (char === '-' || char === ']')) throw invalid(text, `it has a "${char}" that needs a "\\" there`);
    return char;
  }
  while (ranges.length === 0 || chars[at] !== ']') {
    const low = read();
    const isRange = chars[at] === '-';
    if (isRange) at += 1;
    const high = isRange ? read() : low;
    if (low > high) throw invalid(text, `it has a range from "${low}" down to "${high}"`);
    ranges.push([low, high]);
  }
  return { token: { isNegated, ranges }, end: at + 1 };
}

const MAX_SHOWN = 80;

function invalid(text: string, reason: string): InvalidPathPattern {
  const shown = text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text;
  return new InvalidPathPattern(`the pattern ${JSON.stringify(shown.toWellFormed())} is invalid: ${reason}`);
}
