// `veneer man`: the manual page, generated from the commands and examples. In man(7), for mandoc and groff.
import { Command, type Help } from 'commander';
import { findExamples, findWords } from './examples.ts';
import { print } from './output.ts';

/** Describes the commands of its parent. */
export function createManualCommand({
  version,
  now = () => new Date(),
}: {
  readonly version: string;
  readonly now?: () => Date;
}): Command {
  return new Command('man').description('prints the manual page: veneer man | man -l -').action((_, self: Command) => {
    if (self.parent) print(self, formatManual(self.parent, version, now()).join('\n'));
  });
}

function formatManual(root: Command, version: string, date: Date): readonly string[] {
  const below = root.commands.flatMap(listCommands);
  return [
    `.TH VENEER 1 ${date.toISOString().slice(0, 10)} ${quote(`veneer ${version}`)} "User Commands"`,
    '.SH NAME',
    'veneer \\- a registry proxy that puts a thin layer on images as they are pulled',
    '.SH SYNOPSIS',
    ...formatSynopsis('veneer', '[options]'),
    '.br',
    ...formatSynopsis('veneer', '[options] <command> [...]'),
    '.SH DESCRIPTION',
    ...formatText(ABOUT),
    '.SH OPTIONS',
    ...formatTerms(listOptions(root)),
    '.SH COMMANDS',
    ...below.flatMap(formatCommand),
    '.SH ENVIRONMENT',
    ...formatTerms(ENVIRONMENT),
    '.SH EXIT STATUS',
    ...formatTerms(EXIT_STATUS),
    '.SH EXAMPLES',
    ...formatExamples(root),
  ];
}

const ABOUT =
  'Without a command it runs the service. Commands administer a service and its data, or are clients of a running one.';

const ENVIRONMENT = [
  { term: 'VENEER_CONFIG, VENEER_LISTEN, VENEER_DATA_DIR', meaning: 'defaults of the options of the same names' },
  { term: 'VENEER_LOG', meaning: 'the level of the log, such as debug' },
  { term: 'VENEER_URL', meaning: 'the service that commands talk to; default of --server' },
  { term: 'VENEER_TOKEN', meaning: 'an access token, <user>:<password> or a bearer token that is sent to it' },
];

const EXIT_STATUS = [
  { term: '0', meaning: 'done' },
  { term: '1', meaning: 'failed, refused, or wrong usage: the reason is the last line of standard error' },
  { term: '2', meaning: 'the command ran, and found problems: its output says which' },
  { term: '130', meaning: 'interrupted while it waited' },
];

interface Term {
  readonly term: string;
  readonly meaning: string;
}

/** The command, or those below it. */
function listCommands(command: Command): readonly Command[] {
  return command.commands.length > 0 ? command.commands.flatMap(listCommands) : [command];
}

function formatCommand(command: Command): readonly string[] {
  const help = command.createHelp();
  const words = findWords(command);
  const usage = help.commandUsage(command).slice(words.length + 1);
  return [
    `.SS ${quote(words)}`,
    ...formatSynopsis(words, usage),
    '.PP',
    ...formatText(sentence(command.description())),
    ...formatTerms([...listArguments(command, help), ...listOptions(command)]),
    ...formatExamples(command),
  ];
}

function listArguments(command: Command, help: Help): readonly Term[] {
  return help
    .visibleArguments(command)
    .map(argument => ({ term: `<${argument.name()}>`, meaning: help.argumentDescription(argument) }));
}

/** Every command has --help. */
function listOptions(command: Command): readonly Term[] {
  const help = command.createHelp();
  return help
    .visibleOptions(command)
    .filter(({ long }) => long !== '--help' || !command.parent)
    .map(option => ({ term: help.optionTerm(option), meaning: help.optionDescription(option) }));
}

function formatSynopsis(words: string, usage: string): readonly string[] {
  return [`.B ${escapeText(words)}`, ...(usage === '' ? [] : [escapeText(usage)])];
}

function formatTerms(terms: readonly Term[]): readonly string[] {
  return terms.flatMap(({ term, meaning }) => ['.TP', `.B ${escapeText(term)}`, ...formatText(meaning)]);
}

function formatExamples(command: Command): readonly string[] {
  return findExamples(command).flatMap(({ line, meaning }, at) => [
    // No .PP directly after a heading.
    ...(at === 0 && !command.parent ? [] : ['.PP']),
    ...formatText(`${sentence(meaning)}:`),
    '.PP',
    '.in +4n',
    '.nf',
    escapeText(line),
    '.fi',
    '.in',
  ]);
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}`;
}

const MAX_CHARACTERS = 76;

/** Wrapped at the usual width. */
function formatText(text: string): readonly string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines.pop();
    if (last === undefined) lines.push(word);
    else if (last.length + word.length < MAX_CHARACTERS) lines.push(`${last} ${word}`);
    else lines.push(last, word);
  }
  return lines.map(escapeText);
}

/** Escapes a line of text: nothing in it is a request, and hyphens can be copied. */
function escapeText(text: string): string {
  const plain = text.replaceAll('\\', '\\e').replaceAll('-', '\\-').replaceAll('`', '\\(ga').replaceAll('^', '\\(ha');
  return /^[.']/.test(plain) ? `\\&${plain}` : plain;
}

/** As one argument of a request. */
function quote(text: string): string {
  return `"${escapeText(text).replaceAll('"', '\\(dq')}"`;
}
