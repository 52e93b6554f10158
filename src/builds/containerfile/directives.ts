// Parser directives: comments such as `# syntax=docker/dockerfile:1`, above everything else in the file.

import type { EscapeCharacter } from './expand.ts';
import { atLine, InvalidSyntax, quote } from './invalid.ts';
import { trimEndWhile, trimSpaceStart } from './space.ts';

export interface Directive {
  readonly value: string;
  readonly line: number;
}

interface Directives {
  /** The image of the frontend that reads the file instead of the builder's own. */
  readonly syntax: Directive | undefined;
  readonly check: Directive | undefined;
  readonly escapeCharacter: EscapeCharacter;
}

const DIRECTIVE = /^([a-zA-Z][a-zA-Z0-9]*)[\t\n\f\r ]*=[\t\n\f\r ]*(.+)$/s;
const NAMES: readonly string[] = ['syntax', 'check', 'escape'];

/** Throws InvalidContainerFile for a directive that is there twice, or an escape character that is none. */
export function readDirectives(lines: readonly string[]): Directives {
  // The first line may be for the system that runs the file. Then only the syntax counts: the parser takes that line for a comment.
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
  throw new InvalidSyntax(`the directive "${name}" is there twice; keep one of them`);
}
