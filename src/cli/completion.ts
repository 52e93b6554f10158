// `veneer completion`: scripts that complete commands, options and their values in a shell, made of the commands themselves. They are static:
// no process is started when Tab is pressed.
import { Argument, Command, type Option } from 'commander';
import { findWords } from './examples.ts';
import { print } from './output.ts';

const SHELLS = ['bash', 'zsh', 'fish'] as const;

type Shell = (typeof SHELLS)[number];

/** Of the commands beside it. */
export function createCompletionCommand(): Command {
  return new Command('completion')
    .description('prints a script that completes commands and options in your shell')
    .addArgument(new Argument('<shell>', 'which shell').choices(SHELLS))
    .action((shell: Shell, _, self: Command) => {
      if (self.parent) print(self, FORMATS[shell](describe(self.parent)).join('\n'));
    });
}

const FORMATS: Readonly<Record<Shell, (places: readonly Place[]) => readonly string[]>> = {
  bash: formatBash,
  zsh: formatZsh,
  fish: formatFish,
};

/** A command, and what may follow it. */
interface Place {
  /** `veneer token create`. */
  readonly words: string;
  /** The same with each of its names. */
  readonly typed: readonly string[];
  readonly commands: readonly Word[];
  readonly options: readonly OptionWords[];
  /** Of the arguments. */
  readonly values: Values;
}

interface Word {
  readonly word: string;
  readonly meaning: string;
}

interface OptionWords {
  readonly flags: readonly string[];
  readonly meaning: string;
  /** Undefined where it takes none. */
  readonly values: Values | undefined;
}

/** The words to choose from, or files, or neither. */
interface Values {
  readonly choices: readonly string[];
  readonly isFile: boolean;
}

/** The command and all below it, which take its options, too. */
function describe(command: Command, inherited: readonly OptionWords[] = []): readonly Place[] {
  const words = findWords(command);
  const above = words.slice(0, -command.name().length);
  const help = command.createHelp();
  const options = [...help.visibleOptions(command).map(describeOption), ...inherited];
  const place: Place = {
    words,
    typed: [command.name(), ...command.aliases()].map(name => `${above}${name}`),
    commands: help
      .visibleCommands(command)
      .map(below => ({ word: below.name(), meaning: below.summary() || below.description() })),
    options,
    values: describeValues(command.registeredArguments),
  };
  const passedOn = options.filter(({ flags }) => !flags.includes('--help') && !flags.includes('--version'));
  return [place, ...command.commands.flatMap(below => describe(below, passedOn))];
}

function describeOption({ short, long, description, required, optional, argChoices = [], flags }: Option): OptionWords {
  return {
    flags: [short, long].filter(flag => flag !== undefined),
    meaning: description,
    values: required || optional ? { choices: argChoices, isFile: FILE.test(flags) } : undefined,
  };
}

/** Placeholders of what is on this machine. */
const FILE = /[<[](?:file|directory|place|context)\b/;

function describeValues(all: readonly Argument[]): Values {
  return {
    choices: all.flatMap(({ argChoices = [] }) => argChoices),
    isFile: all.some(argument => FILE.test(`<${argument.name()}>`)),
  };
}

/** What the first word that is no option may be. */
function findFirst({ commands, values: { choices } }: Place): readonly Word[] {
  return [...commands, ...choices.map(word => ({ word, meaning: '' }))];
}

interface ValuedOption {
  readonly place: Place;
  readonly flags: readonly string[];
  readonly values: Values;
}

function findValued(places: readonly Place[]): readonly ValuedOption[] {
  return places.flatMap(place =>
    place.options.flatMap(({ flags, values }) => (values ? [{ place, flags, values }] : [])),
  );
}

/** In bash and zsh: a loop over the words that were typed sets `at` to the command that they name. */
function formatWalk(places: readonly Place[], { first, end, word }: { first: number; end: string; word: string }) {
  const below = places.filter(({ words }) => words.includes(' '));
  return [
    '  local at=veneer i',
    `  for ((i = ${first}; i < ${end}; i++)); do`,
    `    case "$at ${word}" in`,
    ...below.map(({ words, typed }) => `      ${typed.map(quote).join('|')}) at=${quote(words)} ;;`),
    '    esac',
    '  done',
  ];
}

function formatBash(places: readonly Place[]): readonly string[] {
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
    ...formatWalk(places, end),
    '  COMPREPLY=()',
    `  case "$at \${COMP_WORDS[COMP_CWORD - 1]}" in`,
    ...findValued(places).map(({ place, flags, values }) => {
      const patterns = flags.map(flag => quote(`${place.words} ${flag}`)).join('|');
      return `    ${patterns}) ${offer(values.choices, values.isFile)}; return ;;`;
    }),
    '  esac',
    `  case "$at|\${COMP_WORDS[COMP_CWORD]}" in`,
    ...places.flatMap(place => [
      `    ${quote(`${place.words}|-`)}*) ${offer(place.options.flatMap(({ flags }) => flags))} ;;`,
      `    ${quote(`${place.words}|`)}*) ${offer(
        findFirst(place).map(({ word }) => word),
        place.values.isFile,
      )} ;;`,
    ]),
    '  esac',
    '}',
    'complete -F _veneer veneer',
  ];
}

function formatZsh(places: readonly Place[]): readonly string[] {
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
    ...formatWalk(places, { first: 2, end: 'CURRENT', word: `\${words[i]}` }),
    '  local -a offered',
    `  case "$at \${words[CURRENT - 1]}" in`,
    ...findValued(places).map(({ place, flags, values }) => {
      const patterns = flags.map(flag => quote(`${place.words} ${flag}`)).join('|');
      return `    ${patterns}) ${offer(toWords(values.choices), values.isFile)}; return ;;`;
    }),
    '  esac',
    '  case "$at|$PREFIX" in',
    ...places.flatMap(place => [
      `    ${quote(`${place.words}|-`)}*) ${offer(place.options.flatMap(listFlags))} ;;`,
      `    ${quote(`${place.words}|`)}*) ${offer(findFirst(place), place.values.isFile)} ;;`,
    ]),
    '  esac',
    '}',
    // From a folder of fpath it is called at once; as a script it tells the shell of itself.
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

function formatFish(places: readonly Place[]): readonly string[] {
  const below = places.filter(({ words }) => words.includes(' '));
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
    ...places.flatMap(formatFishPlace),
  ];
}

function formatFishPlace(place: Place): readonly string[] {
  const condition = `-n ${quoteFish(`__veneer_at "${place.words}"`)}`;
  const ofOptions = place.options.map(({ flags, meaning, values }) => {
    const names = flags.map(flag => (flag.startsWith('--') ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`));
    const choices = values && values.choices.length > 0 ? ` -a ${quoteFish(values.choices.join(' '))}` : '';
    const kind = values ? (values.isFile ? ' -r -F' : ` -x${choices}`) : '';
    return `complete -c veneer ${condition} ${names.join(' ')}${kind} -d ${quoteFish(meaning)}`;
  });
  const ofWords = findFirst(place).map(
    ({ word, meaning }) => `complete -c veneer ${condition} -a ${quoteFish(word)} -d ${quoteFish(meaning)}`,
  );
  return [...ofWords, ...ofOptions, ...(place.values.isFile ? [`complete -c veneer ${condition} -F`] : [])];
}

/** For bash and zsh. */
function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function quoteFish(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
