// Rights: what may be done to which repositories, and to all of Veneer. Whatever nothing allows is refused.
import { createNameTest } from '../oci/name-pattern.ts';

export const verbs = ['pull', 'push', 'delete'] as const;

/** What clients of a registry ask for. */
export type Verb = (typeof verbs)[number];

/** What may be granted: having images built, or copied, into a repository too, which pushing includes; and looking after Veneer. */
export const grantable = [...verbs, 'build', 'admin'] as const;

type Grantable = (typeof grantable)[number];

/** What may be done to a repository. No pattern of names, however wide, is a right to administer. */
export type Right = Exclude<Grantable, 'admin'>;

export interface Permission {
  /** Patterns of full names: `local/**`, `docker.io/library/*`. None for `admin`. */
  readonly repositories: readonly string[];
  readonly allow: readonly Grantable[];
}

/** Whether a right is there. Takes a repository by the one full name that it has, however a client wrote it: `docker.io/library/alpine`. */
export type RightTest = (right: Right, repository: string) => boolean;

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
  return (right, repository) => rules.some(({ allow, matches }) => includesRight(allow, right) && matches(repository));
}

export function includesRight(allow: readonly Grantable[], right: Right): boolean {
  return allow.includes(right) || (right === 'build' && allow.includes('push'));
}

/** Whether they are a right to look after Veneer: to collect, and to look at cache, rules and what others get. */
export function mayAdminister(permissions: readonly Permission[]): boolean {
  return permissions.some(({ allow }) => allow.includes('admin'));
}
