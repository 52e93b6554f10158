// Splits a Containerfile into logical lines: parser directives read, comments dropped, continuation lines joined, heredocs extracted. Our
// own parser, not a lenient one: an instruction that BuildKit sees and we do not would be an unchecked base image.
import { atLine, type Directive, type EscapeCharacter, type Heredoc, InvalidSyntax, quote } from './container-file.ts';
import { type ExpandOptions, expandWords } from './expand.ts';
import { isSpace, trimEndWhile, trimSpaceStart } from './scanner.ts';

export interface Line {
  readonly text: string;
  /** Where it begins, from 1. */
  readonly line: number;
  readonly heredocs: readonly Heredoc[];
}

/** Splits with the line breaks retained: they are part of heredocs. */
export function splitLines(text: string): readonly string[] {
  const lines: string[] = [];
  for (let start = text.startsWith('\uFEFF') ? 1 : 0; start < text.length || lines.length === 0; ) {
    const end = text.indexOf('\n', start) + 1 || text.length;
    lines.push(text.slice(start, end));
    start = end;
  }
  return lines;
}

interface Directives {
  /** The frontend image that replaces the builder's own. */
  readonly syntax: Directive | undefined;
  readonly check: Directive | undefined;
  readonly escapeCharacter: EscapeCharacter;
}

const DIRECTIVE = /^([a-zA-Z][a-zA-Z0-9]*)[\t\n\f\r ]*=[\t\n\f\r ]*(.+)$/s;

const NAMES: readonly string[] = ['syntax', 'check', 'escape'];

/** Throws InvalidContainerFile for a duplicate directive, or an invalid escape character. */
export function readDirectives(lines: readonly string[]): Directives {
  // The first line may be a shebang. Then only `syntax` counts: the parser takes that line for a comment.
  const isRunnable = lines[0]?.startsWith('#!') ?? false;
  const found = new Map<string, Directive>();
  for (const [i, text] of lines.entries()) {
    if (isRunnable && i === 0) continue;
    const { name, value } = readDirective(trimSpaceStart(text));
    if (!NAMES.includes(name)) break;
    const line = i + 1;
    if (found.has(name)) atLine(line, () => failTwice(name));
    found.set(name, { value, line });
  }
  const escapeCharacter = isRunnable ? undefined : found.get('escape');
  return {
    syntax: firstWord(found.get('syntax')),
    check: found.get('check'),
    escapeCharacter: escapeCharacter ? atLine(escapeCharacter.line, () => parseEscape(escapeCharacter.value)) : '\\',
  };
}

/** The name is empty where there is none. */
function readDirective(line: string): { readonly name: string; readonly value: string } {
  const text = line.startsWith('#') ? trimSpaceStart(line.slice(1)) : '';
  const [, name = '', value = ''] = DIRECTIVE.exec(text) ?? [];
  return { name: name.toLowerCase(), value: trimEndWhile(value, char => '\t\n\f\r '.includes(char)) };
}

function parseEscape(value: string): EscapeCharacter {
  if (value === '\\' || value === '`') return value;
  throw new InvalidSyntax(`${quote(value)} cannot be the escape character; it is \\ or \``);
}

function firstWord(directive: Directive | undefined): Directive | undefined {
  return directive && { ...directive, value: directive.value.split(' ', 1)[0] ?? '' };
}

function failTwice(name: string): never {
  throw new InvalidSyntax(`the directive "${name}" is given twice; keep one of them`);
}

/** The instructions that can be followed by heredocs. */
const TAKES_HEREDOC = /^(?:onbuild[\t\v\f\r ]+)?(?:add|copy|run)(?:[\t\v\f\r ]|$)/i;

/** Throws InvalidContainerFile where a heredoc does not end. */
export function joinLines(lines: readonly string[], escapeCharacter: EscapeCharacter): readonly Line[] {
  const joined: Line[] = [];
  for (let at = 0; at < lines.length; ) {
    const start = at;
    if (isNothing(lines[at] ?? '')) {
      at += 1;
      continue;
    }
    const { text, next } = readContinued(lines, at, escapeCharacter);
    at = next;
    if (text === '') continue;
    const line = start + 1;
    const heredocs: Heredoc[] = [];
    for (const mark of atLine(line, () => findMarks(text))) {
      const end = atLine(line, () => findTerminator(lines, at, mark));
      heredocs.push(createHeredoc(mark, lines.slice(at, end)));
      at = end + 1;
    }
    joined.push({ text, line, heredocs });
  }
  return joined;
}

function findMarks(text: string): readonly HeredocMark[] {
  return TAKES_HEREDOC.test(text) ? findHeredocs(text) : [];
}

/** The text of a line with its continuations, and the line after it. Empty for an empty line or a comment. */
function readContinued(
  lines: readonly string[],
  start: number,
  escapeCharacter: EscapeCharacter,
): { readonly text: string; readonly next: number } {
  const first = trimSpaceStart(withoutBreak(lines[start] ?? ''));
  let { text: piece, isContinued } = cutContinuation(first, escapeCharacter);
  const pieces = [piece];
  let at = start + 1;
  for (; isContinued && at < lines.length; at += 1) {
    if (isNothing(lines[at] ?? '')) continue;
    const line = withoutBreak(lines[at] ?? '');
    ({ text: piece, isContinued } = cutContinuation(line, escapeCharacter));
    pieces.push(piece);
  }
  return { text: pieces.join(''), next: at };
}

/** An escape character at the end continues the line, unless it is escaped itself. */
function cutContinuation(line: string, escapeCharacter: EscapeCharacter): { text: string; isContinued: boolean } {
  const end = trimEndWhile(line, char => char === ' ' || char === '\t');
  const isContinued = end.endsWith(escapeCharacter) && end.at(-2) !== escapeCharacter;
  return { text: isContinued ? end.slice(0, -1) : line, isContinued };
}

function findTerminator(lines: readonly string[], from: number, { name, dropsTabs }: HeredocMark): number {
  for (let i = from; i < lines.length; i += 1) {
    const text = withoutBreak(lines[i] ?? '');
    if ((dropsTabs ? text.replace(/^\t+/, '') : text) === name) return i;
  }
  throw new InvalidSyntax(
    `the heredoc "${name.slice(0, 80)}" is never closed; end it with a line that holds only its name`,
  );
}

/** An empty line, or a comment. */
function isNothing(line: string): boolean {
  let at = 0;
  while (at < line.length && isSpace(line.charAt(at))) at += 1;
  return at === line.length || line.charAt(at) === '#';
}

function withoutBreak(line: string): string {
  return trimEndWhile(line, char => char === '\r' || char === '\n');
}

interface HeredocMark {
  readonly name: string;
  readonly isExpanded: boolean;
  /** `<<-`: leading tabs of the terminator are ignored, and those of the content are removed. */
  readonly dropsTabs: boolean;
}

const MARK = /^\d*<<(-?)([^<]*)$/;

/** Heredocs are shell syntax: their names know no other escape character. */
const NAME: ExpandOptions = { escapeCharacter: '\\', keepsUnset: true };

/** The most expensive part of a line to find. */
const MAX_MARKS = 256;

/** The heredocs started by a line, in order. Throws InvalidSyntax for an unreasonable number of marks. */
function findHeredocs(line: string): readonly HeredocMark[] {
  const marks = line.split('<<', MAX_MARKS + 2).length - 1;
  if (marks === 0) return [];
  if (marks > MAX_MARKS) throw new InvalidSyntax(`it has "<<" more than ${MAX_MARKS} times; move some into a file`);
  return splitShellWords(line, { ...NAME, keepsQuotes: true, keepsEscapes: true }).flatMap(
    word => parseHeredocMark(word) ?? [],
  );
}

/** Undefined for a word that does not start one. */
export function parseHeredocMark(word: string): HeredocMark | undefined {
  if (!word.includes('<<')) return undefined;
  const [, minus, rest = ''] = MARK.exec(word) ?? [];
  const [name, ...others] = splitShellWords(rest, NAME);
  if (name === undefined || others.length > 0) return undefined;
  const [quoted = ''] = splitShellWords(rest, { ...NAME, keepsQuotes: true });
  return { name, isExpanded: countQuotes(name) === countQuotes(quoted), dropsTabs: minus === '-' };
}

/** Unbalanced quotes, such as an apostrophe in a RUN, start no heredoc. */
function splitShellWords(text: string, options: ExpandOptions): readonly string[] {
  try {
    return expandWords(text, unset, options);
  } catch (error) {
    if (error instanceof InvalidSyntax) return [];
    throw error;
  }
}

function countQuotes(text: string): number {
  return text.replaceAll(/[^'"]/g, '').length;
}

function unset(): undefined {
  return undefined;
}

/** The heredoc of a mark from its lines, as they stand between the mark's and the terminator's. */
export function createHeredoc({ name, isExpanded, dropsTabs }: HeredocMark, lines: readonly string[]): Heredoc {
  const content = lines.join('');
  return { name, isExpanded, content: dropsTabs ? content.replaceAll(/^\t+/gm, '') : content };
}
