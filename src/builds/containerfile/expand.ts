// Expands words with quotes, escapes and variables, with BuildKit's rules:
// https://docs.docker.com/reference/dockerfile/#environment-replacement
import { createWork, type Work, type WorkOptions } from '../work.ts';
import { type EscapeCharacter, InvalidSyntax } from './container-file.ts';
import { replacePattern, trimEnd, trimStart } from './pattern.ts';
import { type Cursor, createCursor, splitAtSpace } from './scanner.ts';

/** The value of a variable; undefined for one that is not set. */
type Variables = (name: string) => string | undefined;

export interface ExpandOptions {
  readonly escapeCharacter: EscapeCharacter;
  /** Quotes are interpreted, but retained. */
  readonly keepsQuotes?: boolean;
  /** Escapes are interpreted, but retained. */
  readonly keepsEscapes?: boolean;
  /** Unset variables are left as written. */
  readonly keepsUnset?: boolean;
  /** Quotes are literal, as in the text of a heredoc. */
  readonly ignoresQuotes?: boolean;
  /** Spent on growing texts and pattern steps; absent: this expansion has its own budget. */
  readonly work?: Work | undefined;
}

const WHAT = 'its variables: use shorter values and simpler patterns, or fewer of them';

/** For all expansions done synchronously for a file, for all platforms, while a request waits. */
export const PLANNING: WorkOptions = { maxSteps: 512 * 1024, what: WHAT };

/** For all expansions of a build for one platform, which yields after each instruction. */
export const EXPANSION: WorkOptions = { maxSteps: 4 * 1024 * 1024, what: WHAT };

/** The longest result of one expansion: values can double with each variable made of others. */
const MAX_EXPANDED = 1024 * 1024;
const MAX_DEPTH = 50;
/** The cost of reading one, in copied characters. */
const SUBSTITUTION_STEPS = 32;

/** One word, including spaces. Throws InvalidSyntax. */
export function expandWord(text: string, variables: Variables, options: ExpandOptions): string {
  return readAll(text, variables, options).text;
}

/** Splits at unquoted spaces, those of values too. Throws InvalidSyntax. */
export function expandWords(text: string, variables: Variables, options: ExpandOptions): readonly string[] {
  return readAll(text, variables, options).words;
}

/** The position within a word. */
interface Reading extends ExpandOptions {
  readonly work: Work;
  readonly cursor: Cursor;
  readonly variables: Variables;
  readonly depth: number;
  /** Whether escapes within quotes are doubled, for a pattern that is parsed again. */
  readonly isPattern: boolean;
}

function readAll(text: string, variables: Variables, options: ExpandOptions): Read {
  const work = options.work ?? createWork(EXPANSION);
  return readUntil(undefined, { ...options, work, variables, cursor: createCursor(text), depth: 0, isPattern: false });
}

const QUOTES = `'"`;

interface Read {
  readonly text: string;
  readonly words: readonly string[];
}

/** Reads up to and including the stop character, or to the end without one. Throws InvalidSyntax. */
function readUntil(stop: string | undefined, reading: Reading): Read {
  const { cursor, escapeCharacter, keepsEscapes, work } = reading;
  if (reading.depth > MAX_DEPTH) throw new InvalidSyntax(`variables nest deeper than ${MAX_DEPTH}`);
  const words = createWords(work);
  const special = `$<${escapeCharacter}${stop ?? ''}${reading.ignoresQuotes ? '' : QUOTES}`;
  for (let char = cursor.peek(); char !== undefined; char = cursor.peek()) {
    if (char === stop) {
      cursor.next();
      return words.finish();
    }
    if (char === '$') words.addSplit(readSubstitution(reading));
    else if (!reading.ignoresQuotes && QUOTES.includes(char)) words.add(readQuoted(char, reading));
    else if (char === '<') words.add(readArrows(cursor));
    else if (char !== escapeCharacter) words.addSplit(cursor.nextUntil(next => special.includes(next)));
    else {
      cursor.next();
      const escaped = cursor.next();
      if (keepsEscapes) words.add(char);
      if (escaped !== undefined) words.add(escaped);
    }
  }
  if (stop !== undefined) throw new InvalidSyntax(`"${stop}" is missing at the end of a variable`);
  return words.finish();
}

function readQuoted(quote: string, reading: Reading): string {
  const { cursor, keepsQuotes, escapeCharacter, work } = reading;
  cursor.next();
  const parts = keepsQuotes ? [quote] : [];
  const special = `${quote}${escapeCharacter}${quote === '"' ? '$' : ''}`;
  for (let char = cursor.peek(); char !== undefined; char = cursor.peek()) {
    if (char === quote) {
      cursor.next();
      if (keepsQuotes) parts.push(quote);
      return parts.join('');
    }
    work.spend(1);
    if (!special.includes(char)) parts.push(cursor.nextUntil(next => special.includes(next)));
    else parts.push(quote === "'" ? readSingle(reading) : readDouble(char, reading));
  }
  throw new InvalidSyntax(`a quote is not closed: ${quote} is missing`);
}

function readSingle({ cursor, isPattern, escapeCharacter }: Reading): string {
  const char = cursor.next() ?? '';
  return isPattern && char === escapeCharacter ? char + char : char;
}

/** The meaning of an escape in double quotes, or a variable. */
function readDouble(char: string, reading: Reading): string {
  const { cursor, escapeCharacter, keepsQuotes, keepsEscapes, isPattern } = reading;
  if (char === '$') return readSubstitution(reading);
  cursor.next();
  const next = cursor.peek();
  if (next === undefined) return '';
  if (next === '"' || next === '$' || next === escapeCharacter) return `${keepsEscapes ? char : ''}${cursor.next()}`;
  return keepsEscapes && (!keepsQuotes || isPattern) ? char + char : char;
}

/** The start of a heredoc is one word, even with spaces before its name. */
function readArrows(cursor: Cursor): string {
  let arrows = cursor.next() ?? '';
  if (cursor.peek() !== '<') return arrows;
  arrows += cursor.next();
  for (let char = cursor.peek(); char === ' ' || char === '\t' || char === '\r'; char = cursor.peek()) {
    arrows += cursor.next();
  }
  return arrows;
}

/** The whole text, and the words split at unquoted spaces. */
function createWords(work: Work) {
  const text: string[] = [];
  const words: string[] = [];
  let word = '';
  let length = 0;

  function take(piece: string): void {
    text.push(piece);
    work.spend(piece.length + 1);
    length += piece.length;
    if (length > MAX_EXPANDED)
      throw new InvalidSyntax(`with its variables it is longer than ${MAX_EXPANDED} characters`);
  }
  function endWord(): void {
    if (word) words.push(word);
    word = '';
  }
  return {
    add(piece: string): void {
      take(piece);
      word += piece;
    },
    addSplit(piece: string): void {
      take(piece);
      const [first = '', ...others] = splitAtSpace(piece);
      word += first;
      for (const other of others) {
        endWord();
        word = other;
      }
    },
    finish(): Read {
      endWord();
      return { text: text.join(''), words };
    },
  };
}

/** Expands one variable, such as $V, ${V:-default} or ${V#pattern}, starting at the dollar. */
function readSubstitution(reading: Reading): string {
  const { cursor, variables, keepsUnset, work } = reading;
  work.spend(SUBSTITUTION_STEPS);
  cursor.next();
  if (cursor.peek() === '{') return readBraces({ ...reading, depth: reading.depth + 1 });
  const name = readName(cursor);
  if (name === '') return '$';
  return variables(name) ?? (keepsUnset ? `$${name}` : '');
}

function readBraces(reading: Reading): string {
  const { cursor } = reading;
  cursor.next();
  const first = cursor.peek() ?? '';
  const name = readName(cursor);
  if (name === '' && first !== '')
    throw new InvalidSyntax('a variable has no name; expected $NAME, or the name in braces');
  const modifier = readModifier(cursor);
  if (modifier === '') throw new InvalidSyntax('"}" is missing at the end of a variable');
  switch (modifier) {
    case '}':
      return reading.variables(name) ?? (reading.keepsUnset ? `\${${name}}` : '');
    case '-':
    case ':-':
    case '+':
    case ':+':
    case '?':
    case ':?':
      return substituteDefault(name, modifier, reading);
    case '#':
    case '%':
      return trimPattern(name, modifier, reading);
    case '/':
      return replace(name, reading);
    default:
      throw new InvalidSyntax(
        `\${${name}${modifier}…} is unknown; there are \${V} \${V:-d} \${V:+d} \${V:?e}, the same without ":", \${V#p} \${V%p} \${V/p/r}`,
      );
  }
}

function readModifier(cursor: Cursor): string {
  const char = cursor.next() ?? '';
  return char === ':' ? char + (cursor.next() ?? '') : char;
}

function substituteDefault(name: string, modifier: string, reading: Reading): string {
  const word = readUntil('}', { ...reading, keepsEscapes: false, isPattern: false }).text;
  const value = reading.variables(name);
  if (value === undefined && reading.keepsUnset) return `\${${name}${modifier}${word}}`;
  const isThere = value !== undefined && !(modifier.startsWith(':') && value === '');
  if (modifier.endsWith('-')) return isThere ? value : word;
  if (modifier.endsWith('+')) return isThere ? word : '';
  if (isThere) return value;
  throw new InvalidSyntax(`${name}: ${word || `is not allowed to be ${value === undefined ? 'unset' : 'empty'}`}`);
}

function trimPattern(name: string, modifier: '#' | '%', reading: Reading): string {
  const word = readUntil('}', { ...reading, keepsEscapes: true, isPattern: true }).text;
  const value = reading.variables(name);
  if (value === undefined && reading.keepsUnset) return `\${${name}${modifier}${word}}`;
  const isLongest = word.startsWith(modifier);
  const trim = modifier === '#' ? trimStart : trimEnd;
  return trim(value ?? '', isLongest ? word.slice(1) : word, {
    reach: isLongest ? 'longest' : 'shortest',
    work: reading.work,
  });
}

function replace(name: string, reading: Reading): string {
  const all = reading.cursor.peek() === '/';
  if (all) reading.cursor.next();
  const pattern = readUntil('/', { ...reading, keepsEscapes: true, isPattern: true }).text;
  const replacement = readUntil('}', { ...reading, keepsEscapes: true, isPattern: false }).text;
  const value = reading.variables(name);
  if (value === undefined && reading.keepsUnset) return `\${${name}/${pattern}/${replacement}}`;
  return replacePattern(value ?? '', pattern, { replacement, all, work: reading.work });
}

/** A name, digits, or one of the shell's special characters; empty where there is none of these. */
function readName(cursor: Cursor): string {
  const first = cursor.peek() ?? '';
  if (/^[@*#?\-$!]$/.test(first)) return cursor.next() ?? '';
  const isNumber = /^\p{Nd}$/u.test(first);
  let name = '';
  for (
    let char = first;
    isNumber ? /^\p{Nd}$/u.test(char) : /^[\p{L}\p{Nd}_]$/u.test(char);
    char = cursor.peek() ?? ''
  ) {
    name += char;
    cursor.next();
  }
  return name;
}
