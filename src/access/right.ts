// Rights: what may be done to which repositories, and to Veneer itself, and how clients request bearer tokens for them, by scopes. Default
// deny.
import { RegistryError } from '../oci/errors.ts';
import { createNameTest } from '../oci/name-pattern.ts';
import { isRegistryHost, parseRepository } from '../oci/reference.ts';

export const verbs = ['pull', 'push', 'delete'] as const;

/** The actions of the distribution API. */
export type Verb = (typeof verbs)[number];

/** All grantable verbs: additionally `build`, to have images built or copied into a repository, which pushing includes; and `admin`. */
export const grantable = [...verbs, 'build', 'admin'] as const;

type Grantable = (typeof grantable)[number];

/** Verbs on repositories. No pattern of names, however wide, includes administration. */
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

/**
 * Whether a right is granted. Repositories are given by their normalised full name, however a client wrote it: `docker.io/library/alpine`.
 */
export type RightTest = (right: Right, repository: string) => boolean;

const MAX_PATTERN = 255;
const SEGMENT = /^(?:\*\*|(?!\*\*$)[a-z0-9._:-]*(?:\*[a-z0-9._:-]+)*\*?)$/;

/** The error in a pattern; undefined for a valid one. `*` matches any text without a slash, a segment `**` any number of segments. */
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

/** Whether they include the right to administer Veneer: garbage collection, and access to the cache, rules and other callers' data. */
export function mayAdminister(permissions: readonly Permission[]): boolean {
  return permissions.some(({ allow }) => allow.includes('admin'));
}

const MAX_SCOPES = 20;
/** A token with all of them must fit into the headers of a request. */
const MAX_CHARACTERS = 4096;
const SCOPE = /^([a-z0-9]+)(?:\([a-z0-9]+\))?:(\S+):([a-z*]*(?:,[a-z*]*)*)$/;

/**
 * Parses lists of scopes, each separated by spaces: one entry for each repository, in order. Other resource types and unknown actions are
 * dropped, since nobody can have rights to them. Throws a 400 for malformed scopes, and NAME_INVALID.
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

/** The scope of `GET /v2/_catalog`, which clients of the token specification know. */
export const CATALOG_SCOPE = 'registry:catalog:*';

/** Whether it is among lists of scopes. */
export function asksForCatalog(lists: readonly string[]): boolean {
  return lists.some(list => list.split(' ').includes(CATALOG_SCOPE));
}

/** `repository:local/app:pull,push`; verbs that a distribution client needs together are requested together. */
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
