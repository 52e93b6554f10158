// Patterns of repository names and tags, as used in rules.
import picomatch from 'picomatch';

export interface TagPattern {
  /** Globs of full names: `*` stays within a component, `**` does not. */
  readonly repositories: readonly string[];
  readonly tags: readonly string[];
}

/** Names and tags cannot begin with a dot, but may contain one. */
const OPTIONS = { dot: true, strictSlashes: true, nonegate: true } as const;

/** Each additional one makes a failed match a hundred times slower, and the client chooses the name. */
const MAX_IN_COMPONENT = 3;
const MAX_IN_ALL = 6;
const STRETCHES = /\*+|!\(/g;
export const EXPECTED_GLOB = `expected at most ${MAX_IN_COMPONENT} times * in a component and ${MAX_IN_ALL} in all, and no +( or *(`;

/** Whether the glob is fast for any name. Braces are counted as written. */
export function isQuickGlob(glob: string): boolean {
  const count = (text: string) => text.match(STRETCHES)?.length ?? 0;
  const isBounded = glob.split('/').every(component => count(component) <= MAX_IN_COMPONENT);
  return isBounded && count(glob) <= MAX_IN_ALL && !/[+*]\(/.test(glob);
}

/** Whether one of the globs matches a full name, such as `docker.io/library/alpine`. */
export function createNameTest(globs: readonly string[]): (name: string) => boolean {
  const tests = globs.map(glob => (isPlain(glob) ? createPlainTest(glob) : picomatch(glob, OPTIONS)));
  return name => tests.some(test => test(name));
}

/** Only stars are special in it. */
const PLAIN = /^(?!\.)[A-Za-z0-9._:/*-]+$/;

function isPlain(glob: string): boolean {
  return PLAIN.test(glob) && glob.split('/').every(component => component === '**' || !component.includes('**'));
}

/** Equivalent to picomatch, but never slower than the product of both lengths: the client chooses the name. */
function createPlainTest(glob: string): (name: string) => boolean {
  const components = glob.split('/');
  if (!glob.includes('*')) return name => name === glob;
  return name => {
    const names = name.split('/');
    // Such names lead elsewhere: no star matches them.
    return !names.some(part => part === '.' || part === '..') && matchComponents(names, components);
  };
}

/** A trailing `**` matches one component or more. */
function matchComponents(names: readonly string[], components: readonly string[]): boolean {
  const rest = skipMatched(names, components, '**', matchComponent);
  return rest === components.length;
}

function matchComponent(name: string, component: string): boolean {
  const rest = skipMatched(name, component, '*', (a, b) => a === b);
  return rest !== undefined && /^\**$/.test(component.slice(rest));
}

/**
 * Matches all items to parts of a pattern, where a star matches any number. Returns the position in the pattern after the last part used;
 * undefined where they do not match. Only the last star is ever backtracked: the number of steps is at most the product of both lengths.
 */
function skipMatched(
  items: ArrayLike<string>,
  pattern: ArrayLike<string>,
  star: string,
  matches: (item: string, part: string) => boolean,
): number | undefined {
  let [at, position, starAt, retry] = [0, 0, -1, 0];
  while (at < items.length) {
    const part = pattern[position];
    if (part === star) {
      [starAt, retry] = [position, at];
      position += 1;
    } else if (part !== undefined && matches(items[at] ?? '', part)) {
      at += 1;
      position += 1;
    } else if (starAt >= 0) {
      retry += 1;
      [at, position] = [retry, starAt + 1];
    } else return undefined;
  }
  return position;
}

/** Whether one of the patterns matches both a repository and its tag. */
export function createTagTest(patterns: readonly TagPattern[]): (repository: string, tag: string) => boolean {
  const tests = patterns.map(({ repositories, tags }) => [createNameTest(repositories), createNameTest(tags)] as const);
  return (repository, tag) => tests.some(([isName, isTag]) => isName(repository) && isTag(tag));
}
