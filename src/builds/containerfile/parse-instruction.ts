// Parses one instruction from its line, with a table of keywords.
import { findSimilar } from '../../oci/wording.ts';
import {
  type Command,
  type FlagKind,
  parseCommandLine,
  parseFlags,
  parseJsonList,
  parseJsonOrWords,
  parseKeyValues,
  splitCommand,
  splitQuotedWords,
  splitWords,
} from './command.ts';
import {
  type AddInstruction,
  type ArgInstruction,
  type CopyInstruction,
  type EscapeCharacter,
  type Heredoc,
  type Instruction,
  InvalidSyntax,
  quote,
  type RunInstruction,
  type SourcesAndDest,
} from './container-file.ts';
import { parseHealthcheck } from './healthcheck.ts';
import { createHeredoc, type Line, parseHeredocMark } from './lines.ts';

type WithoutPosition<I> = I extends Instruction ? Omit<I, 'line' | 'code'> : never;

type Parse = (command: Command, line: Line, escapeCharacter: EscapeCharacter) => WithoutPosition<Instruction>;

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
  const hint = similar ? `did you mean ${similar}?` : `expected one of ${KEYWORDS.join(', ')}`;
  return new InvalidSyntax(`unknown instruction ${quote(keyword)}; ${hint}`);
}

const COMMON = { chown: 'text', chmod: 'text', link: 'switch', exclude: 'texts' } as const;

const COPY: Readonly<Record<string, FlagKind>> = { ...COMMON, from: 'text', parents: 'switch' };

const ADD: Readonly<Record<string, FlagKind>> = {
  ...COMMON,
  'keep-git-dir': 'switch',
  checksum: 'text',
  unpack: 'switch',
};

type Flags = ReadonlyMap<string, readonly string[]>;

/** Throws InvalidSyntax. */
function parseCopy(command: Command, heredocs: readonly Heredoc[]): WithoutPosition<CopyInstruction> {
  const flags = parseFlags(command, COPY);
  const from = flags.get('from')?.[0] || undefined;
  if (from && /\$(?!$)/.test(from)) throw new InvalidSyntax(noVariable('--from'));
  return { kind: 'copy', ...parseSourcesAndDest(command, flags, heredocs), from, keepsParents: isOn(flags, 'parents') };
}

/** Throws InvalidSyntax. */
function parseAdd(command: Command, heredocs: readonly Heredoc[]): WithoutPosition<AddInstruction> {
  const flags = parseFlags(command, ADD);
  const unpacks = flags.has('unpack') ? isOn(flags, 'unpack') : undefined;
  return {
    kind: 'add',
    ...parseSourcesAndDest(command, flags, heredocs),
    unpacks,
    checksum: flags.get('checksum')?.[0] || undefined,
  };
}

function parseSourcesAndDest({ keyword, rest }: Command, flags: Flags, heredocs: readonly Heredoc[]): SourcesAndDest {
  const words = parseJsonOrWords(rest);
  const destination = words.at(-1);
  if (destination === undefined || words.length < 2) {
    throw new InvalidSyntax(`${keyword} has no destination; expected ${keyword} source… destination`);
  }
  if (parseHeredocMark(destination))
    throw new InvalidSyntax(`${keyword} has the heredoc ${quote(destination)} as its destination`);
  const sources = words.slice(0, -1);
  // As in a shell, the last one of a name wins.
  const byName = new Map(heredocs.map(heredoc => [heredoc.name, heredoc]));
  return {
    sources: sources.filter(source => !parseHeredocMark(source)),
    heredocs: sources.flatMap(source => findHeredoc(source, byName) ?? []),
    destination,
    chown: flags.get('chown')?.[0] || undefined,
    chmod: flags.get('chmod')?.[0] || undefined,
    isLinked: isOn(flags, 'link'),
    excludes: flags.get('exclude') ?? [],
  };
}

function findHeredoc(source: string, heredocs: ReadonlyMap<string, Heredoc>): Heredoc | undefined {
  const mark = parseHeredocMark(source);
  return mark && (heredocs.get(mark.name) ?? createHeredoc(mark, []));
}

function isOn(flags: Flags, name: string): boolean {
  return flags.get(name)?.[0] === 'true';
}

/** Throws InvalidSyntax. */
function parseRunFlags(command: Command): Pick<RunInstruction, 'mountSources' | 'entitlements'> {
  const flags = parseFlags(command, { mount: 'texts', network: 'text', security: 'text', device: 'texts' });
  const [network, security] = [flags.get('network')?.at(-1), flags.get('security')?.at(-1)];
  return {
    mountSources: (flags.get('mount') ?? []).flatMap(mount => findFrom(mount) ?? []),
    entitlements: [
      ...(network === undefined || HARMLESS.includes(network) ? [] : [`--network=${network}`]),
      ...(security === undefined || security === 'sandbox' ? [] : [`--security=${security}`]),
      ...(flags.get('device') ?? []).map(device => `--device=${device}`),
    ],
  };
}

const HARMLESS = ['default', 'none'];

function findFrom(mount: string): string | undefined {
  const from = splitFields(mount).findLast(({ key }) => key === 'from')?.value;
  if (from && /\$(?!$)/.test(from)) throw new InvalidSyntax(noVariable('the "from" of --mount'));
  return from || undefined;
}

/** Fields of comma-separated values; one in double quotes may hold commas. */
function splitFields(text: string): readonly { readonly key: string; readonly value: string }[] {
  const fields = text.match(/(?:"[^"]*"|[^,"])+/g) ?? [];
  return fields.map(field => {
    const plain = field.replace(/^"(.*)"$/s, '$1').replaceAll('""', '"');
    const equals = plain.indexOf('=');
    return { key: plain.slice(0, equals).toLowerCase(), value: plain.slice(equals + 1) };
  });
}

/** Referenced stages and images must be known before anything is built. */
function noVariable(where: string): string {
  return `${where} cannot use a variable; name a stage there, whose FROM can use one`;
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

/** The text of the trigger with its heredocs: it is parsed when it is used. */
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
