// Rights: what may be done to which repositories. Whatever nothing allows is refused.
import { createNameTest } from '../oci/name-pattern.ts';

export const verbs = ['pull', 'push', 'delete'] as const;

export type Verb = (typeof verbs)[number];

export interface Permission {
  /** Patterns of full names: `local/**`, `docker.io/library/*`. */
  readonly repositories: readonly string[];
  readonly allow: readonly Verb[];
}

/** Whether a right is there. Takes a repository by the one full name that it has, however a client wrote it: `docker.io/library/alpine`. */
export type RightTest = (verb: Verb, repository: string) => boolean;

const MAX_PATTERN = 255;
const SEGMENT = /^(?:\*\*|(?!\*\*$)[a-z0-9._:-]*(?:\*[a-z0-9._:-]+)*\*?)$/;

/** What is wrong with a pattern; undefined for a good one. `*` stands for any text but a slash, a segment `**` for any number of segments. */
export function findPatternFault(pattern: string): string | undefined {
  const segments = pattern.split('/');
  const isPattern = segments.every(segment => segment !== '' && SEGMENT.test(segment));
  if (isPattern && pattern.length <= MAX_PATTERN) return undefined;
  return `expected a pattern of repository names such as local/** or docker.io/library/*, of at most ${MAX_PATTERN} characters`;
}

export function createRightTest(permissions: readonly Permission[]): RightTest {
  const rules = permissions.map(({ repositories, allow }) => ({ allow, matches: createNameTest(repositories) }));
  return (verb, repository) => rules.some(({ allow, matches }) => allow.includes(verb) && matches(repository));
}
