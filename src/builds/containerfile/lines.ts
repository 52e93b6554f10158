// The lines of a Containerfile as instructions see them: continued lines joined, comments gone, heredocs taken out. A reader of our own and
// not an editor's parser: what BuildKit takes for an instruction and we do not would be a base image that nobody looked at.
import type { EscapeCharacter } from './expand.ts';
import { createHeredoc, findHeredocs, type Heredoc, type HeredocMark } from './heredoc.ts';
import { atLine, InvalidSyntax } from './invalid.ts';
import { isSpace, trimEndWhile, trimSpaceStart } from './space.ts';

export interface Line {
  readonly text: string;
  /** Where it begins, from 1. */
  readonly line: number;
  readonly heredocs: readonly Heredoc[];
}

/** The instructions that can be followed by heredocs. */
const TAKES_HEREDOC = /^(?:onbuild[\t\v\f\r ]+)?(?:add|copy|run)(?:[\t\v\f\r ]|$)/i;

/** Splits with the line breaks kept: a heredoc's content has them. */
export function splitLines(text: string): readonly string[] {
  const lines: string[] = [];
  for (let start = text.startsWith('\uFEFF') ? 1 : 0; start < text.length || lines.length === 0; ) {
    const end = text.indexOf('\n', start) + 1 || text.length;
    lines.push(text.slice(start, end));
    start = end;
  }
  return lines;
}

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

/** The text from a line on as far as it is continued, and the line behind it. Empty for an empty line or a comment. */
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
    `the heredoc "${name.slice(0, 80)}" does not end; a line with nothing but its name has to follow`,
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
