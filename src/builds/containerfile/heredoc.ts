// Heredocs: files that stand in the Containerfile itself, behind the line that names them.
import { type ExpandOptions, expandWords } from './expand.ts';
import { InvalidSyntax } from './invalid.ts';

export interface Heredoc {
  readonly name: string;
  /** Between the line and the terminator; leading tabs are removed already where `<<-` asks for it. */
  readonly content: string;
  /** Variables in the content are expanded: no part of the name is quoted. */
  readonly isExpanded: boolean;
}

export interface HeredocMark {
  readonly name: string;
  readonly isExpanded: boolean;
  /** `<<-`: leading tabs of the terminator do not count, and those of the content go. */
  readonly dropsTabs: boolean;
}

const MARK = /^\d*<<(-?)([^<]*)$/;
/** Heredocs are the shell's: their names know no other escape character. */
const NAME: ExpandOptions = { escapeCharacter: '\\', keepsUnset: true };

/** To look for them takes longer than for anything else in a line. */
const MAX_MARKS = 256;

/** The heredocs that a line begins, in order. Throws InvalidSyntax where more may begin than anybody writes. */
export function findHeredocs(line: string): readonly HeredocMark[] {
  const marks = line.split('<<', MAX_MARKS + 2).length - 1;
  if (marks === 0) return [];
  if (marks > MAX_MARKS) throw new InvalidSyntax(`it has "<<" more than ${MAX_MARKS} times; move some into a file`);
  return splitShellWords(line, { ...NAME, keepsQuotes: true, keepsEscapes: true }).flatMap(
    word => parseHeredocMark(word) ?? [],
  );
}

/** Undefined for a word that begins none. */
export function parseHeredocMark(word: string): HeredocMark | undefined {
  if (!word.includes('<<')) return undefined;
  const [, minus, rest = ''] = MARK.exec(word) ?? [];
  const [name, ...others] = splitShellWords(rest, NAME);
  if (name === undefined || others.length > 0) return undefined;
  const [quoted = ''] = splitShellWords(rest, { ...NAME, keepsQuotes: true });
  return { name, isExpanded: countQuotes(name) === countQuotes(quoted), dropsTabs: minus === '-' };
}

/** The heredoc of a mark from its lines, as they stand between the mark's and the terminator's. */
export function createHeredoc({ name, isExpanded, dropsTabs }: HeredocMark, lines: readonly string[]): Heredoc {
  const content = lines.join('');
  return { name, isExpanded, content: dropsTabs ? content.replaceAll(/^\t+/gm, '') : content };
}

/** What a shell could not read, such as an apostrophe in a RUN, begins no heredoc. */
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
