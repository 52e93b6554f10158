// Recipes: how a missing image is built when it is pulled.
import { resolve, sep } from 'node:path';
import { InvalidPlatform, parsePlatform } from '../../oci/platform.ts';
import type { ContainerFileSpec } from '../spec.ts';
import { InvalidRecipe, type Pattern, parsePattern, type Values } from './pattern.ts';

/** A recipe as configured. Arguments, labels and paths may contain the placeholders of `match`. */
export interface RecipeOptions {
  /** The pattern of full names that it matches, such as `local/tools/{name}:{version}`. */
  readonly match: string;
  /** The path of the file. */
  readonly containerFile: string;
  /** The path of a folder. */
  readonly context?: string | undefined;
  readonly args?: Texts | undefined;
  readonly labels?: Texts | undefined;
  readonly platforms?: readonly string[] | undefined;
  readonly stage?: string | undefined;
  readonly secrets?: readonly string[] | undefined;
  readonly ssh?: readonly string[] | undefined;
  readonly network?: ContainerFileSpec['network'] | undefined;
  readonly attestations?: Partial<ContainerFileSpec['attestations']> | undefined;
  /** The age after which an image is planned again; absent: never. */
  readonly ttlMs?: number | undefined;
  readonly timeoutMs?: number | undefined;
}

type Texts = Readonly<Record<string, string>>;

/** A recipe for one image: its paths are absolute, and its placeholders are replaced. */
export interface RecipeMatch extends Omit<RecipeOptions, 'match' | 'args' | 'labels'> {
  readonly args: Texts;
  readonly labels: Texts;
}

export interface Recipes {
  /** The first recipe that matches a full name, such as `docker.io/library/alpine`, and its tag. */
  find(repository: string, tag: string): RecipeMatch | undefined;
  /** Whether a recipe may match some tag of the repository. */
  covers(repository: string): boolean;
}

/** Temporary tags of builds in progress: builders look them up before they push. */
const OF_A_BUILD = /^bd-[0-9a-f]{16}_\d+\./;

interface Recipe {
  readonly pattern: Pattern;
  readonly options: RecipeOptions;
}

/** Relative paths are below `directory`. Throws InvalidRecipe for the first that is invalid. */
export function createRecipes(options: readonly RecipeOptions[], directory: string): Recipes {
  const recipes = options.map(parseRecipe);
  return {
    covers: repository => recipes.some(({ pattern }) => pattern.matchesRepository(repository)),
    find(repository, tag) {
      if (OF_A_BUILD.test(tag)) return undefined;
      for (const { pattern, options } of recipes) {
        const values = pattern.match(repository, tag);
        const match = values && fill(options, values, directory);
        if (match) return match;
      }
      return undefined;
    },
  };
}

function parseRecipe(options: RecipeOptions): Recipe {
  const pattern = parsePattern(options.match);
  for (const [place, text] of textsOf(options)) {
    const unknown = placeholdersOf(text).find(name => !pattern.placeholders.includes(name));
    if (unknown !== undefined) throw new InvalidRecipe(describeUnknown(options.match, place, { unknown, pattern }));
  }
  options.platforms?.forEach(checkPlatform);
  return { pattern, options };
}

function textsOf({ containerFile, context, args = {}, labels = {} }: RecipeOptions): readonly [string, string][] {
  return [
    ['containerFile', containerFile],
    ...(context === undefined ? [] : [['context', context] satisfies [string, string]]),
    ...Object.entries(args).map(([name, text]): [string, string] => [`args.${name}`, text]),
    ...Object.entries(labels).map(([name, text]): [string, string] => [`labels.${name}`, text]),
  ];
}

function describeUnknown(
  match: string,
  place: string,
  { unknown, pattern }: { readonly unknown: string; readonly pattern: Pattern },
): string {
  const known = pattern.placeholders.map(name => `{${name}}`).join(', ');
  return `${place} has {${unknown}}, but the pattern "${match}" has ${known || 'no placeholders'}`;
}

function checkPlatform(text: string): void {
  try {
    parsePlatform(text);
  } catch (cause) {
    throw cause instanceof InvalidPlatform ? new InvalidRecipe(`platforms: ${cause.message}`, { cause }) : cause;
  }
}

/** Undefined if a value would lead a path out of its folder: the recipe does not match such a name. */
function fill({ match: _, ...options }: RecipeOptions, values: Values, directory: string): RecipeMatch | undefined {
  const containerFile = fillPath(options.containerFile, values, directory);
  const context = options.context === undefined ? undefined : fillPath(options.context, values, directory);
  if (containerFile === undefined || (options.context !== undefined && context === undefined)) return undefined;
  return {
    ...options,
    containerFile,
    context,
    args: fillTexts(options.args, values),
    labels: fillTexts(options.labels, values),
  };
}

function fillTexts(texts: Texts = {}, values: Values): Texts {
  return Object.fromEntries(Object.entries(texts).map(([name, text]) => [name, fillText(text, values)]));
}

const PLACEHOLDER = /\{([A-Za-z_][A-Za-z0-9_]*)\}/g;

/** The names of the placeholders in a text. */
function placeholdersOf(text: string): readonly string[] {
  return [...text.matchAll(PLACEHOLDER)].map(([, name = '']) => name);
}

/** Replaces placeholders in a single pass: values are not expanded again, and unknown placeholders stay. */
function fillText(text: string, values: Values): string {
  return text.replace(PLACEHOLDER, (placeholder, name: string) => values.get(name) ?? placeholder);
}

/**
 * The absolute path; undefined if a value would lead it out of its fixed folder, which is everything before the first
 * component with a placeholder.
 */
function fillPath(path: string, values: Values, directory: string): string | undefined {
  const components = path.split('/');
  const first = components.findIndex(component => placeholdersOf(component).length > 0);
  if (first < 0) return resolve(directory, path);
  const folder = resolve(directory, components.slice(0, first).join('/') || (path.startsWith('/') ? '/' : '.'));
  const filled = components.slice(first).map(component => fillText(component, values));
  const isSafe = filled.join('/').split('/').every(isPlain);
  const found = resolve(folder, ...filled);
  return isSafe && found.startsWith(folder.endsWith(sep) ? folder : folder + sep) ? found : undefined;
}

/** A component that names something in its folder. */
function isPlain(component: string): boolean {
  return component !== '' && component !== '.' && component !== '..' && !component.includes('\0');
}
