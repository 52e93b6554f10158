// One instruction from its line: a row for each keyword.

import { findSimilar } from '../../oci/similar.ts';
import {
  parseCommandLine,
  parseJsonList,
  parseJsonOrWords,
  parseKeyValues,
  splitQuotedWords,
  splitWords,
} from './arguments.ts';
import { type Command, parseFlags, splitCommand } from './command.ts';
import type { EscapeCharacter } from './expand.ts';
import { parseHealthcheck } from './healthcheck.ts';
import type { ArgInstruction, Instruction } from './instruction.ts';
import { InvalidSyntax, quote } from './invalid.ts';
import type { Line } from './lines.ts';
import { parseRunFlags } from './run.ts';
import { parseAdd, parseCopy } from './transfer.ts';

type Unplaced<I> = I extends Instruction ? Omit<I, 'line' | 'code'> : never;
type Parse = (command: Command, line: Line, escapeCharacter: EscapeCharacter) => Unplaced<Instruction>;

const PARSERS: ReadonlyMap<string, Parse> = new Map<string, Parse>([
  ['ADD', (command, { heredocs }) => parseAdd(command, heredocs)],
  ['ARG', (command, _, escapeCharacter) => ({ kind: 'arg', args: parseArgs(command, escapeCharacter) })],
  ['CMD', command => ({ kind: 'cmd', command: parseCommandLine(withoutFlags(command)) })],
  ['COPY', (command, { heredocs }) => parseCopy(command, heredocs)],
  ['ENTRYPOINT', command => ({ kind: 'entrypoint', command: parseCommandLine(withoutFlags(command)) })],
  [
    'ENV',
    (command, _, escapeCharacter) => ({
      kind: 'env',
      pairs: parseKeyValues('ENV', withoutFlags(command), escapeCharacter),
    }),
  ],
  ['EXPOSE', command => ({ kind: 'expose', values: atLeastOne(command, splitWords(command.rest)).toSorted() })],
  ['HEALTHCHECK', command => ({ kind: 'healthcheck', healthcheck: parseHealthcheck(command) })],
  [
    'LABEL',
    (command, _, escapeCharacter) => ({
      kind: 'label',
      pairs: parseKeyValues('LABEL', withoutFlags(command), escapeCharacter),
    }),
  ],
  ['MAINTAINER', command => ({ kind: 'maintainer', value: theOne(command) })],
  [
    'ONBUILD',
    (command, line, escapeCharacter) => ({ kind: 'onbuild', trigger: parseTrigger(command, line, escapeCharacter) }),
  ],
  ['RUN', command => ({ kind: 'run', ...parseRunFlags(command) })],
  ['SHELL', command => ({ kind: 'shell', shell: parseShell(command) })],
  ['STOPSIGNAL', command => ({ kind: 'stopsignal', value: theOne(command) })],
  ['USER', command => ({ kind: 'user', value: theOne(command) })],
  ['VOLUME', command => ({ kind: 'volume', values: parseVolumes(command) })],
  ['WORKDIR', command => ({ kind: 'workdir', value: theOne(command) })],
]);

const KEYWORDS: readonly string[] = ['FROM', ...PARSERS.keys()];

/** Any instruction but FROM. Throws InvalidSyntax. */
export function parseInstruction(line: Line, escapeCharacter: EscapeCharacter): Instruction {
  const command = splitCommand(line.text, escapeCharacter);
  const parse = PARSERS.get(command.keyword);
  if (!parse) throw unknownKeyword(command.keyword);
  return { ...parse(command, line, escapeCharacter), line: line.line, code: line.text.trim() };
}

function unknownKeyword(keyword: string): InvalidSyntax {
  const similar = findSimilar(keyword, KEYWORDS);
  const hint = similar ? `did you mean ${similar}?` : `there are ${KEYWORDS.join(', ')}`;
  return new InvalidSyntax(`${quote(keyword)} is no instruction; ${hint}`);
}

function parseArgs(command: Command, escapeCharacter: EscapeCharacter): ArgInstruction['args'] {
  return atLeastOne(command, splitQuotedWords(command.rest, escapeCharacter)).map(word => {
    const equals = word.indexOf('=');
    if (equals === 0) throw new InvalidSyntax(`ARG has ${quote(word)}; expected name or name=value`);
    return equals < 0 ? { key: word, value: undefined } : { key: word.slice(0, equals), value: word.slice(equals + 1) };
  });
}

function parseShell(command: Command): readonly string[] {
  const shell = parseJsonList(withoutFlags(command));
  if (shell && shell.length > 0) return shell;
  throw new InvalidSyntax('SHELL takes a JSON list with at least one string, such as ["/bin/sh", "-c"]');
}

function parseVolumes(command: Command): readonly string[] {
  const volumes = atLeastOne(command, parseJsonOrWords(command.rest)).map(volume => volume.trim());
  if (!volumes.includes('')) return volumes;
  throw new InvalidSyntax('VOLUME has an empty path');
}

/** The text of the trigger with its heredocs: it is parsed where it is pulled. */
function parseTrigger(command: Command, line: Line, escapeCharacter: EscapeCharacter): string {
  const rest = theOne(command);
  const { keyword } = splitCommand(rest, escapeCharacter);
  if (['ONBUILD', 'FROM', 'MAINTAINER'].includes(keyword))
    throw new InvalidSyntax(`${keyword} cannot be a trigger of ONBUILD`);
  const text = line.text.replace(/^onbuild[\t\v\f\r ]*/i, '');
  return [text, ...line.heredocs.map(({ name, content }) => `${content}${name}`)].join('\n');
}

function theOne(command: Command): string {
  const rest = withoutFlags(command);
  if (rest !== '') return rest;
  throw new InvalidSyntax(`${command.keyword} has no argument; it takes one`);
}

function atLeastOne<T>(command: Command, values: readonly T[]): readonly T[] {
  withoutFlags(command);
  if (values.length > 0) return values;
  throw new InvalidSyntax(`${command.keyword} has no argument; it takes at least one`);
}

function withoutFlags(command: Command): string {
  parseFlags(command, {});
  return command.rest;
}
