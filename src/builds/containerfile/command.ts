// Splits one line of a Containerfile: the keyword, the flags, and the arguments in their various forms.
import { z } from 'zod';
import { findSimilar } from '../../oci/wording.ts';
import { type CommandLine, type EscapeCharacter, InvalidSyntax, type KeyValue, quote } from './container-file.ts';
import { createCursor, isSpace, trimSpace, trimSpaceStart } from './scanner.ts';

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

/** Leading words that start with `--`; `--` alone ends them. */
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

/** The kind of a flag's value: a string, a repeatable string, or a boolean. */
export type FlagKind = 'text' | 'texts' | 'switch';

/** The values of the flags: `true` for a switch. Throws InvalidSyntax for one that is unknown, duplicated or without a value. */
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
      throw new InvalidSyntax(`the flag --${name} is given twice; keep one of them`);
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

/** Throws InvalidSyntax. */
export function parseCommandLine(text: string): CommandLine {
  const args = parseJsonList(text);
  return args ? { form: 'exec', args } : { form: 'shell', text };
}

/** A JSON list, or words separated by spaces; quotes have no meaning here. Throws InvalidSyntax. */
export function parseJsonOrWords(text: string): readonly string[] {
  return parseJsonList(text) ?? splitWords(text);
}

const stringsSchema = z.array(z.string());

/** The strings of a JSON list; undefined for anything but a JSON list. Throws InvalidSyntax for a list of anything else. */
export function parseJsonList(text: string): readonly string[] | undefined {
  const list = trimSpaceStart(text);
  if (!list.startsWith('[')) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(list);
  } catch {
    return undefined;
  }
  const strings = stringsSchema.safeParse(value);
  if (strings.success) return strings.data;
  throw new InvalidSyntax('a JSON list may hold strings only; put each argument into double quotes');
}

export function splitWords(text: string): readonly string[] {
  return text.split(/[\t\v\f\r ]+/).filter(word => word !== '');
}

/** Words separated by unquoted spaces; quotes and escapes are preserved for the expansion. */
export function splitQuotedWords(text: string, escapeCharacter: EscapeCharacter): readonly string[] {
  const words: string[] = [];
  let start = 0;
  let quoted: string | undefined;
  for (let at = 0; at < text.length; at += 1) {
    const char = text.charAt(at);
    if (quoted === undefined && isSpace(char)) {
      if (at > start) words.push(text.slice(start, at));
      start = at + 1;
    } else if (char === escapeCharacter && quoted !== "'") {
      // Escapes without effect are dropped.
      if (at === text.length - 1) return at > start ? [...words, text.slice(start, at)] : words;
      at += 1;
    } else if (char === quoted) quoted = undefined;
    else if (quoted === undefined && (char === '"' || char === "'")) quoted = char;
  }
  if (start < text.length) words.push(text.slice(start));
  return words;
}

/** `key=value …`, or the legacy `key value`. Throws InvalidSyntax for a missing key, or no arguments. */
export function parseKeyValues(keyword: string, text: string, escapeCharacter: EscapeCharacter): readonly KeyValue[] {
  const words = splitQuotedWords(text, escapeCharacter);
  const [first] = words;
  if (first === undefined) throw new InvalidSyntax(`${keyword} has no argument; expected ${keyword} name=value`);
  if (!first.includes('=')) return [parseOldKeyValue(keyword, text)];
  return words.map(word => {
    const equals = word.indexOf('=');
    if (equals > 0) return { key: word.slice(0, equals), value: word.slice(equals + 1) };
    throw new InvalidSyntax(`${keyword} has ${quote(word)}; expected name=value`);
  });
}

function parseOldKeyValue(keyword: string, text: string): KeyValue {
  const [, key, value] = /^([^\t\v\f\r ]+)[\t\v\f\r ]+(.*)$/s.exec(text) ?? [];
  if (key !== undefined && value !== undefined) return { key, value };
  throw new InvalidSyntax(`${keyword} has no value; expected ${keyword} name=value`);
}
