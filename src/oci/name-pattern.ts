// Patterns of repository names and tags, as operators write them in rules about them.
import picomatch from 'picomatch';

export interface TagPattern {
  /** Globs of full names: `*` stays within a component, `**` does not. */
  readonly repositories: readonly string[];
  readonly tags: readonly string[];
}

/** Names and tags may begin with a dot nowhere, but hold one anywhere. */
const OPTIONS = { dot: true, strictSlashes: true, nonegate: true } as const;

/** Each more takes a hundred times as long to see that a name does not fit, and whoever pulls chooses the name. */
const MAX_IN_COMPONENT = 3;
const MAX_IN_ALL = 6;
const STRETCHES = /\*+|!\(/g;
export const EXPECTED_GLOB = `expected at most ${MAX_IN_COMPONENT} times * in a component and ${MAX_IN_ALL} in all, and no +( or *(`;

/** Whether the glob takes little time for any name. Braces are looked at as they are written. */
export function isQuickGlob(glob: string): boolean {
  const count = (text: string) => text.match(STRETCHES)?.length ?? 0;
  const isBounded = glob.split('/').every(component => count(component) <= MAX_IN_COMPONENT);
  return isBounded && count(glob) <= MAX_IN_ALL && !/[+*]\(/.test(glob);
}

/** Whether one of the globs matches a full name, such as `docker.io/library/alpine`. */
export function createNameTest(globs: readonly string[]): (name: string) => boolean {
  return picomatch([...globs], OPTIONS);
}

/** Whether one of the patterns matches both a repository and its tag. */
export function createTagTest(patterns: readonly TagPattern[]): (repository: string, tag: string) => boolean {
  const tests = patterns.map(({ repositories, tags }) => [createNameTest(repositories), createNameTest(tags)] as const);
  return (repository, tag) => tests.some(([isName, isTag]) => isName(repository) && isTag(tag));
}
