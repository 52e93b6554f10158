// Scopes: what a client asks a bearer token for. The distribution project's "Token Scope Documentation".
import { RegistryError } from '../oci/errors.ts';
import { isRegistryHost, parseRepository } from '../oci/reference.ts';
import type { RepositoryAccess } from './caller.ts';
import { type Verb, verbs } from './right.ts';

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
