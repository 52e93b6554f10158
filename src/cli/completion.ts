// `veneer completion`: shell scripts that complete commands, options and their values, generated from the commands themselves. They are
// static: pressing Tab starts no process.
import { Argument, Command, type Option } from 'commander';
import { findWords } from './examples.ts';
import { print } from './output.ts';

const SHELLS = ['bash', 'zsh', 'fish'] as const;

type Shell = (typeof SHELLS)[number];

/** Completes the commands of its parent. */
export function createCompletionCommand(): Command {
  return new Command('completion')
    .description('prints a script that completes commands and options in your shell')
    .addArgument(new Argument('<shell>', 'which shell').choices(SHELLS))
    .action((shell: Shell, _, self: Command) => {
      if (self.parent) print(self, FORMATS[shell](describe(self.parent)).join('\n'));
    });
}

const FORMATS: Readonly<Record<Shell, (commands: readonly CommandWords[]) => readonly string[]>> = {
  bash: formatBash,
  zsh: formatZsh,
  fish: formatFish,
};

/** A command, and the words that may follow it. */
interface CommandWords {
  /** `veneer token create`. */
  readonly words: string;
  /** The same with each of its aliases. */
  readonly typed: readonly string[];
  readonly commands: readonly Word[];
  readonly options: readonly OptionWords[];
  /** The values of its arguments. */
  readonly values: Values;
}

interface Word {
  readonly word: string;
  readonly meaning: string;
}

interface OptionWords {
  readonly flags: readonly string[];
  readonly meaning: string;
  /** Undefined for an option without a value. */
  readonly values: Values | undefined;
}

/** A choice of words, files, or neither. */
interface Values {
  readonly choices: readonly string[];
  readonly isFile: boolean;
}

/** The command and all its subcommands, which accept its options as well. */
function describe(command: Command, inherited: readonly OptionWords[] = []): readonly CommandWords[] {
  const words = findWords(command);
  const above = words.slice(0, -command.name().length);
  const help = command.createHelp();
  const options = [...help.visibleOptions(command).map(describeOption), ...inherited];
  const described: CommandWords = {
    words,
    typed: [command.name(), ...command.aliases()].map(name => `${above}${name}`),
    commands: help
      .visibleCommands(command)
      .map(below => ({ word: below.name(), meaning: below.summary() || below.description() })),
    options,
    values: describeValues(command.registeredArguments),
  };
  const passedOn = options.filter(({ flags }) => !flags.includes('--help') && !flags.includes('--version'));
  return [described, ...command.commands.flatMap(below => describe(below, passedOn))];
}

function describeOption({ short, long, description, required, optional, argChoices = [], flags }: Option): OptionWords {
  return {
    flags: [short, long].filter(flag => flag !== undefined),
    meaning: description,
    values: required || optional ? { choices: argChoices, isFile: FILE.test(flags) } : undefined,
  };
}

/** Placeholders for a path. */
const FILE = /[<[](?:file|directory|place|context)\b/;

function describeValues(all: readonly Argument[]): Values {
  return {
    choices: all.flatMap(({ argChoices = [] }) => argChoices),
    isFile: all.some(argument => FILE.test(`<${argument.name()}>`)),
  };
}

/** The words that may come first, apart from options. */
function findFirst({ commands, values: { choices } }: CommandWords): readonly Word[] {
  return [...commands, ...choices.map(word => ({ word, meaning: '' }))];
}

interface ValuedOption {
  readonly command: CommandWords;
  readonly flags: readonly string[];
  readonly values: Values;
}

function findValued(commands: readonly CommandWords[]): readonly ValuedOption[] {
  return commands.flatMap(command =>
    command.options.flatMap(({ flags, values }) => (values ? [{ command, flags, values }] : [])),
  );
}

/** In bash and zsh: a loop over the typed words sets `at` to the command that they name. */
function formatWalk(
  commands: readonly CommandWords[],
  { first, end, word }: { first: number; end: string; word: string },
) {
  const below = commands.filter(({ words }) => words.includes(' '));
  return [
    '  local at=veneer i',
    `  for ((i = ${first}; i < ${end}; i++)); do`,
    `    case "$at ${word}" in`,
    ...below.map(({ words, typed }) => `      ${typed.map(quote).join('|')}) at=${quote(words)} ;;`),
    '    esac',
    '  done',
  ];
}

function formatBash(commands: readonly CommandWords[]): readonly string[] {
  const offer = (words: readonly string[], isFile = false) =>
    isFile && words.length === 0 ? '_veneer_files' : `_veneer_offer ${quote(words.join(' '))}`;
  const end = { first: 1, end: 'COMP_CWORD', word: `\${COMP_WORDS[i]}` };
  return [
    '# Completion of veneer for bash: put eval "$(veneer completion bash)" into ~/.bashrc',
    '_veneer_offer() {',
    `  COMPREPLY=($(compgen -W "$1" -- "\${COMP_WORDS[COMP_CWORD]}"))`,
    '}',
    '_veneer_files() {',
    `  local IFS=$'\\n'`,
    '  compopt -o filenames 2>/dev/null',
    `  COMPREPLY=($(compgen -f -- "\${COMP_WORDS[COMP_CWORD]}"))`,
    '}',
    '_veneer() {',
    ...formatWalk(commands, end),
    '  COMPREPLY=()',
    `  case "$at \${COMP_WORDS[COMP_CWORD - 1]}" in`,
    ...findValued(commands).map(({ command, flags, values }) => {
      const patterns = flags.map(flag => quote(`${command.words} ${flag}`)).join('|');
      return `    ${patterns}) ${offer(values.choices, values.isFile)}; return ;;`;
    }),
    '  esac',
    `  case "$at|\${COMP_WORDS[COMP_CWORD]}" in`,
    ...commands.flatMap(command => [
      `    ${quote(`${command.words}|-`)}*) ${offer(command.options.flatMap(({ flags }) => flags))} ;;`,
      `    ${quote(`${command.words}|`)}*) ${offer(
        findFirst(command).map(({ word }) => word),
        command.values.isFile,
      )} ;;`,
    ]),
    '  esac',
    '}',
    'complete -F _veneer veneer',
  ];
}

function formatZsh(commands: readonly CommandWords[]): readonly string[] {
  const describeAll = (words: readonly Word[]) => words.map(describeZshWord).map(quote).join(' ');
  const offer = (words: readonly Word[], isFile = false) => {
    if (words.length > 0) return `offered=(${describeAll(words)}); _describe veneer offered`;
    return isFile ? '_files' : ':';
  };
  const toWords = (choices: readonly string[]) => choices.map(word => ({ word, meaning: '' }));
  return [
    '#compdef veneer',
    '# Completion of veneer for zsh: put source <(veneer completion zsh) into ~/.zshrc, after compinit',
    '_veneer() {',
    ...formatWalk(commands, { first: 2, end: 'CURRENT', word: `\${words[i]}` }),
    '  local -a offered',
    `  case "$at \${words[CURRENT - 1]}" in`,
    ...findValued(commands).map(({ command, flags, values }) => {
      const patterns = flags.map(flag => quote(`${command.words} ${flag}`)).join('|');
      return `    ${patterns}) ${offer(toWords(values.choices), values.isFile)}; return ;;`;
    }),
    '  esac',
    '  case "$at|$PREFIX" in',
    ...commands.flatMap(command => [
      `    ${quote(`${command.words}|-`)}*) ${offer(command.options.flatMap(listFlags))} ;;`,
      `    ${quote(`${command.words}|`)}*) ${offer(findFirst(command), command.values.isFile)} ;;`,
    ]),
    '  esac',
    '}',
    // In a directory of fpath it is called at once; as a sourced script it registers itself.
    'if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _veneer "$@"; else compdef _veneer veneer; fi',
  ];
}

function listFlags({ flags, meaning }: OptionWords): readonly Word[] {
  return flags.map(word => ({ word, meaning }));
}

function describeZshWord({ word, meaning }: Word): string {
  const escaped = word.replaceAll(':', '\\:');
  return meaning === '' ? escaped : `${escaped}:${meaning}`;
}

function formatFish(commands: readonly CommandWords[]): readonly string[] {
  const below = commands.filter(({ words }) => words.includes(' '));
  return [
    '# Completion of veneer for fish: veneer completion fish > ~/.config/fish/completions/veneer.fish',
    'function __veneer_at',
    '  set -l at veneer',
    '  for word in (commandline -opc)[2..-1]',
    '    switch "$at $word"',
    ...below.map(({ words, typed }) => `      case ${typed.map(quoteFish).join(' ')}; set at ${quoteFish(words)}`),
    '    end',
    '  end',
    '  test "$at" = "$argv[1]"',
    'end',
    'complete -c veneer -f',
    ...commands.flatMap(formatFishCommand),
  ];
}

function formatFishCommand(command: CommandWords): readonly string[] {
  const condition = `-n ${quoteFish(`__veneer_at "${command.words}"`)}`;
  const ofOptions = command.options.map(({ flags, meaning, values }) => {
    const names = flags.map(flag => (flag.startsWith('--') ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`));
    const choices = values && values.choices.length > 0 ? ` -a ${quoteFish(values.choices.join(' '))}` : '';
    const kind = values ? (values.isFile ? ' -r -F' : ` -x${choices}`) : '';
    return `complete -c veneer ${condition} ${names.join(' ')}${kind} -d ${quoteFish(meaning)}`;
  });
  const ofWords = findFirst(command).map(
    ({ word, meaning }) => `complete -c veneer ${condition} -a ${quoteFish(word)} -d ${quoteFish(meaning)}`,
  );
  return [...ofWords, ...ofOptions, ...(command.values.isFile ? [`complete -c veneer ${condition} -F`] : [])];
}

/** Quotes a word for bash and zsh. */
function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function quoteFish(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
