// Patterns of repository names and tags, as operators write them in rules about them.
import picomatch from 'picomatch';

export interface TagPattern {
  /** Globs of full names: `*` stays within a component, `**` does not. */
  readonly repositories: readonly string[];
  readonly tags: readonly string[];
}

/** Names and tags may begin with a dot nowhere, but hold one anywhere. */
const OPTIONS = { dot: true, strictSlashes: true, nonegate: true } as const;

/** Whether one of the globs matches a full name, such as `docker.io/library/alpine`. */
export function createNameTest(globs: readonly string[]): (name: string) => boolean {
  return picomatch([...globs], OPTIONS);
}

/** Whether one of the patterns matches both a repository and its tag. */
export function createTagTest(patterns: readonly TagPattern[]): (repository: string, tag: string) => boolean {
  const tests = patterns.map(({ repositories, tags }) => [createNameTest(repositories), createNameTest(tags)] as const);
  return (repository, tag) => tests.some(([isName, isTag]) => isName(repository) && isTag(tag));
}
