// The parts of an instruction's line: its keyword, its flags, and the rest.

import { findSimilar } from '../../oci/similar.ts';
import { createCursor } from './cursor.ts';
import type { EscapeCharacter } from './expand.ts';
import { InvalidSyntax, quote } from './invalid.ts';
import { isSpace, trimSpace, trimSpaceStart } from './space.ts';

export interface Command {
  /** In upper case. */
  readonly keyword: string;
  /** Without quotes, such as `--from=a`. */
  readonly flags: readonly string[];
  readonly rest: string;
}

/** Whether the keyword of a line is FROM. */
export function isFrom(line: string): boolean {
  return /^from(?:[\t\v\f\r ]|$)/i.test(trimSpace(line));
}

export function splitCommand(line: string, escapeCharacter: EscapeCharacter): Command {
  const [, keyword = '', rest = ''] = /^([^\t\v\f\r ]*)[\t\v\f\r ]*(.*)$/s.exec(trimSpace(line)) ?? [];
  return { keyword: keyword.toUpperCase(), ...splitFlags(trimSpace(rest), escapeCharacter) };
}

/** Words that begin with `--`, as long as no other one comes; `--` alone ends them. */
function splitFlags(text: string, escapeCharacter: EscapeCharacter): Pick<Command, 'flags' | 'rest'> {
  const flags: string[] = [];
  let rest = text;
  while (rest.startsWith('--')) {
    const { word, length } = readFlag(rest, escapeCharacter);
    rest = trimSpaceStart(rest.slice(length));
    if (word === '--') break;
    flags.push(word);
  }
  return { flags, rest: trimSpace(rest) };
}

function readFlag(text: string, escapeCharacter: EscapeCharacter): { readonly word: string; readonly length: number } {
  const cursor = createCursor(text);
  const isSpecial = (char: string) => char === escapeCharacter || char === '"' || char === "'" || isSpace(char);
  let word = '';
  let length = 0;
  let quoted: string | undefined;
  for (let char = cursor.next(); char !== undefined; char = cursor.next()) {
    if (quoted === undefined && isSpace(char)) break;
    length += char.length;
    if (char === escapeCharacter) {
      const escaped = cursor.next() ?? '';
      length += escaped.length;
      word += escaped;
    } else if (char === quoted) quoted = undefined;
    else if (quoted === undefined && (char === '"' || char === "'")) quoted = char;
    else {
      const more = quoted === undefined ? cursor.nextUntil(isSpecial) : '';
      length += more.length;
      word += char + more;
    }
  }
  return { word, length };
}

/** What a flag may hold: a text, a text many times, or yes or no. */
export type FlagKind = 'text' | 'texts' | 'switch';

/** The values of the flags: of a switch that is on, `true`. Throws InvalidSyntax for one that is unknown, without a value, or there twice. */
export function parseFlags(
  command: Command,
  kinds: Readonly<Record<string, FlagKind>>,
): ReadonlyMap<string, readonly string[]> {
  const values = new Map<string, string[]>();
  for (const flag of command.flags) {
    const [, name = '', value] = /^--([^=]*)(?:=(.*))?$/s.exec(flag) ?? [];
    const kind = Object.hasOwn(kinds, name) ? kinds[name] : undefined;
    if (kind === undefined) throw unknownFlag(command.keyword, name, Object.keys(kinds));
    const before = values.get(name) ?? [];
    if (before.length > 0 && kind !== 'texts')
      throw new InvalidSyntax(`the flag --${name} is there twice; keep one of them`);
    before.push(kind === 'switch' ? parseSwitch(name, value) : parseText(name, value));
    values.set(name, before);
  }
  return values;
}

function parseSwitch(name: string, value = 'true'): string {
  const text = value.toLowerCase();
  if (text === 'true' || text === 'false') return text;
  throw new InvalidSyntax(`--${name} is ${quote(value)}; expected true or false`);
}

function parseText(name: string, value: string | undefined): string {
  if (value !== undefined) return value;
  throw new InvalidSyntax(`the flag --${name} has no value; expected --${name}=…`);
}

function unknownFlag(keyword: string, name: string, known: readonly string[]): InvalidSyntax {
  const similar = findSimilar(name, known);
  const hint = similar ? `did you mean --${similar}?` : `it has ${known.map(flag => `--${flag}`).join(', ') || 'none'}`;
  return new InvalidSyntax(`${keyword} has no flag ${quote(`--${name}`)}; ${hint}`);
}
