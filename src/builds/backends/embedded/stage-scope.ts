// The variables of a stage: its environment and its ARGs, in one namespace in which the later one wins.
import type { ArgInstruction, EscapeCharacter } from '../../containerfile/container-file.ts';
import { type ExpandOptions, expandWord, expandWords } from '../../containerfile/expand.ts';
import { MAX_SCOPE_CHARACTERS } from '../../containerfile/stages.ts';
import type { Work } from '../../work.ts';
import { InvalidStep } from './step.ts';

export interface StageScope {
  expand(text: string): string;
  expandAll(text: string): readonly string[];
  /** The content of a heredoc, where quotes are literal. */
  expandContent(text: string): string;
  set(name: string, value: string): void;
  /** Declares arguments; returns them as for the history. */
  declare(args: ArgInstruction['args']): string;
  /** A copy, for a stage based on this one. */
  values(): ReadonlyMap<string, string>;
  /** Budget for everything that the file's text causes. */
  readonly work: Work;
}

/** All functions throw InvalidSyntax or InvalidStep. */
export function createStageScope(
  start: ReadonlyMap<string, string>,
  {
    escapeCharacter,
    work,
    args,
    globals,
  }: {
    readonly escapeCharacter: EscapeCharacter;
    readonly work: Work;
    /** Of the build. */
    readonly args: Readonly<Record<string, string>>;
    /** Of the file, for an ARG without a default. */
    readonly globals: ReadonlyMap<string, string>;
  },
): StageScope {
  const values = new Map(start);
  const find = (name: string) => values.get(name);
  const words: ExpandOptions = { escapeCharacter, work };
  work.spend(values.size);
  let size = 0;

  function set(name: string, value: string): void {
    size += value.length - (values.get(name)?.length ?? 0);
    work.spend(1);
    if (size > MAX_SCOPE_CHARACTERS) throw new InvalidStep('the values of its variables are too long');
    values.set(name, value);
  }

  function resultOf({ key, value }: ArgInstruction['args'][number]): string | undefined {
    if (Object.hasOwn(args, key)) return args[key];
    return value === undefined ? globals.get(key) : expandWord(value, find, words);
  }

  return {
    expand: text => expandWord(text, find, words),
    expandAll: text => expandWords(text, find, words),
    expandContent: text => expandWord(text, find, { escapeCharacter: '\\', ignoresQuotes: true, work }),
    set,
    declare(declared) {
      const texts = declared.map(arg => {
        const value = resultOf(arg);
        if (value === undefined) return arg.key;
        set(arg.key, value);
        return `${arg.key}=${value}`;
      });
      return `ARG ${texts.join(' ')}`;
    },
    values: () => new Map(values),
    work,
  };
}
