// Rights: what may be done to which repositories, and to all of Veneer, and how a client asks a bearer token for them, by scopes. Whatever
// nothing allows is refused.
import { RegistryError } from '../oci/errors.ts';
import { createNameTest } from '../oci/name-pattern.ts';
import { isRegistryHost, parseRepository } from '../oci/reference.ts';

export const verbs = ['pull', 'push', 'delete'] as const;

/** What clients of a registry ask for. */
export type Verb = (typeof verbs)[number];

/** What may be granted: having images built, or copied, into a repository too, which pushing includes; and looking after Veneer. */
export const grantable = [...verbs, 'build', 'admin'] as const;

type Grantable = (typeof grantable)[number];

/** What may be done to a repository. No pattern of names, however wide, is a right to administer. */
export type Right = Exclude<Grantable, 'admin'>;

export interface RepositoryAccess {
  readonly repository: string;
  readonly verbs: readonly Right[];
}

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

const MAX_SCOPES = 20;
/** A token that holds all of it must still fit into the headers of a request. */
const MAX_CHARACTERS = 4096;
const SCOPE = /^([a-z0-9]+)(?:\([a-z0-9]+\))?:(\S+):([a-z*]*(?:,[a-z*]*)*)$/;

/**
 * Parses lists of scopes, each separated by spaces: one entry for each repository, in their order. Other kinds of resources and
 * unknown actions are left out, since nobody has rights to them. Throws a 400 for what is no scope, and NAME_INVALID.
 */
export function parseScopes(lists: readonly string[]): readonly RepositoryAccess[] {
  const texts = lists.flatMap(list => list.split(' ')).filter(text => text !== '');
  if (texts.length > MAX_SCOPES || texts.join(' ').length > MAX_CHARACTERS) {
    throw invalid(`more than ${MAX_SCOPES} scopes, or more than ${MAX_CHARACTERS} characters of them`);
  }
  const asked = new Map<string, ReadonlySet<Verb>>();
  for (const { repository, verbs: more } of texts.flatMap(parseScope)) {
    asked.set(repository, new Set([...(asked.get(repository) ?? []), ...more]));
  }
  return [...asked].map(([repository, wanted]) => ({ repository, verbs: verbs.filter(verb => wanted.has(verb)) }));
}

/** `repository:local/app:pull,push`; verbs that a client of distribution needs together are asked for together. */
export function formatScope({ repository, verbs: actions }: RepositoryAccess): string {
  return `repository:${repository}:${actions.join(',')}`;
}

function parseScope(text: string): readonly { readonly repository: string; readonly verbs: readonly Verb[] }[] {
  const [, type, name, actions] = SCOPE.exec(text) ?? [];
  if (name === undefined || actions === undefined) {
    throw invalid(`invalid scope "${text.slice(0, 255)}": expected repository:<name>:<pull, push, delete or *>`);
  }
  return type === 'repository' ? [{ repository: parseName(name), verbs: parseActions(actions) }] : [];
}

function parseName(name: string): string {
  const slash = name.indexOf('/');
  const hasHost = slash > 0 && isRegistryHost(name.slice(0, slash));
  parseRepository(hasHost ? name.slice(slash + 1) : name);
  return name;
}

function parseActions(text: string): readonly Verb[] {
  const actions = text.split(',');
  return verbs.filter(verb => actions.includes(verb) || actions.includes('*'));
}

function invalid(message: string): RegistryError {
  return new RegistryError('UNSUPPORTED', message, { status: 400 });
}
