// The forms that the arguments of instructions come in: JSON, words, keys with values.
import { z } from 'zod';
import type { EscapeCharacter } from './expand.ts';
import { InvalidSyntax, quote } from './invalid.ts';
import { isSpace, trimSpaceStart } from './space.ts';

export interface KeyValue {
  readonly key: string;
  readonly value: string;
}

const stringsSchema = z.array(z.string());

/** The strings of a JSON list; undefined for what is no JSON list. Throws InvalidSyntax for a list of anything else. */
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
  throw new InvalidSyntax('a JSON list has something else than strings; put each argument into double quotes');
}

/** A command: a list is run as it is, a text by the shell. */
export type CommandLine = { readonly form: 'exec'; readonly args: readonly string[] } | ShellForm;

interface ShellForm {
  readonly form: 'shell';
  readonly text: string;
}

/** Throws InvalidSyntax. */
export function parseCommandLine(text: string): CommandLine {
  const args = parseJsonList(text);
  return args ? { form: 'exec', args } : { form: 'shell', text };
}

/** A JSON list, or words between spaces; quotes mean nothing here. Throws InvalidSyntax. */
export function parseJsonOrWords(text: string): readonly string[] {
  return parseJsonList(text) ?? splitWords(text);
}

export function splitWords(text: string): readonly string[] {
  return text.split(/[\t\v\f\r ]+/).filter(word => word !== '');
}

/** Words between spaces that stand outside of quotes; quotes and escapes stay, for the expansion. */
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
      // What escapes nothing goes.
      if (at === text.length - 1) return at > start ? [...words, text.slice(start, at)] : words;
      at += 1;
    } else if (char === quoted) quoted = undefined;
    else if (quoted === undefined && (char === '"' || char === "'")) quoted = char;
  }
  if (start < text.length) words.push(text.slice(start));
  return words;
}

/** `key=value …`, or the old `key value`. Throws InvalidSyntax where one has no key, or there is nothing at all. */
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
