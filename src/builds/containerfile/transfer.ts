// COPY and ADD: https://docs.docker.com/reference/dockerfile/#copy
import { parseJsonOrWords } from './arguments.ts';
import { type Command, type FlagKind, parseFlags } from './command.ts';
import { createHeredoc, type Heredoc, parseHeredocMark } from './heredoc.ts';
import type { AddInstruction, CopyInstruction, Transfer } from './instruction.ts';
import { InvalidSyntax, quote } from './invalid.ts';

const COMMON = { chown: 'text', chmod: 'text', link: 'switch', exclude: 'texts' } as const;
const COPY: Readonly<Record<string, FlagKind>> = { ...COMMON, from: 'text', parents: 'switch' };
const ADD: Readonly<Record<string, FlagKind>> = {
  ...COMMON,
  'keep-git-dir': 'switch',
  checksum: 'text',
  unpack: 'switch',
};

type Flags = ReadonlyMap<string, readonly string[]>;
type Unplaced<I> = Omit<I, 'line' | 'code'>;

/** Throws InvalidSyntax. */
export function parseCopy(command: Command, heredocs: readonly Heredoc[]): Unplaced<CopyInstruction> {
  const flags = parseFlags(command, COPY);
  const from = flags.get('from')?.[0] || undefined;
  if (from && /\$(?!$)/.test(from)) throw new InvalidSyntax(noVariable('--from'));
  return { kind: 'copy', ...parseTransfer(command, flags, heredocs), from, keepsParents: isOn(flags, 'parents') };
}

/** Throws InvalidSyntax. */
export function parseAdd(command: Command, heredocs: readonly Heredoc[]): Unplaced<AddInstruction> {
  const flags = parseFlags(command, ADD);
  const unpacks = flags.has('unpack') ? isOn(flags, 'unpack') : undefined;
  return {
    kind: 'add',
    ...parseTransfer(command, flags, heredocs),
    unpacks,
    checksum: flags.get('checksum')?.[0] || undefined,
  };
}

/** Stages and images that are read from must be known before anything is built. */
export function noVariable(where: string): string {
  return `${where} takes no variable; name a stage there: FROM … AS name may have one`;
}

function parseTransfer({ keyword, rest }: Command, flags: Flags, heredocs: readonly Heredoc[]): Transfer {
  const words = parseJsonOrWords(rest);
  const destination = words.at(-1);
  if (destination === undefined || words.length < 2) {
    throw new InvalidSyntax(`${keyword} has no destination; expected ${keyword} source… destination`);
  }
  if (parseHeredocMark(destination))
    throw new InvalidSyntax(`${keyword} has the heredoc ${quote(destination)} as its destination`);
  const sources = words.slice(0, -1);
  // As in a shell, the last one of a name is meant.
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
