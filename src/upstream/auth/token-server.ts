// Gets tokens from the server named in a challenge. The distribution project's token and OAuth2 specifications.
import type { Dispatcher } from 'undici';
import { z } from 'zod';
import { RegistryError } from '../../oci/errors.ts';
import { parseJson } from '../../oci/json.ts';
import {
  badAnswer,
  type ConfigKeys,
  connectionFailure,
  type RequestContext,
  readLimited,
  responseFailure,
} from '../failure.ts';
import { bareHost } from '../transport/connector.ts';
import { discard } from '../transport/response.ts';
import type { Transport } from '../transport/transport.ts';
import { basic, type Credentials } from './credentials.ts';

export interface TokenServerOptions {
  readonly upstream: string;
  readonly keys?: ConfigKeys | undefined;
  readonly rules: RealmRules;
  /** Transports to hosts trusted with the credentials, and to all others of the upstream's domain. */
  readonly transports: { readonly own: Transport; readonly guarded: Transport };
}

export interface Grant {
  readonly authorization: string;
  /** How long to use it, in milliseconds. */
  readonly ttlMs: number;
}

const CLIENT_ID = 'veneer';
const MAX_TOKEN_BYTES = 64 * 1024;
const DEFAULT_TTL_SECONDS = 60;
const MAX_TTL_SECONDS = 3600;

/** Null and invalid values count as absent, as in Go clients. */
const tokenSchema = z.object({
  token: z.string().nullish().catch(undefined),
  access_token: z.string().nullish().catch(undefined),
  expires_in: z.number().positive().nullish().catch(undefined),
});

/** Throws 502 for a realm that must not receive our credentials and for an answer without a token, otherwise the server's own error. */
export async function fetchToken(
  { parameters }: Challenge,
  { credentials, scope }: { readonly credentials: Credentials | undefined; readonly scope: string },
  { upstream, keys, rules, transports }: TokenServerOptions,
): Promise<Grant> {
  const attempt: RequestContext = { upstream, action: 'token request', missing: 'UNAUTHORIZED', keys };
  const realm = await parseRealm(parameters.get('realm') ?? '', rules, attempt);
  const transport = isTrustedRealm(realm, rules) ? transports.own : transports.guarded;
  const service = parameters.get('service');
  const wanted = chooseScope(parameters.get('scope'), scope);
  // A login requests no scope.
  const query = { ...(service && { service }), ...(wanted && { scope: wanted }) };
  try {
    const request = { transport, query, credentials, upstream };
    const response = (await refresh(realm, request)) ?? (await ask(realm, request));
    if (response.statusCode >= 400) throw explain(await responseFailure(response, attempt), credentials, attempt);
    return parseToken(await readToken(response, attempt), attempt);
  } catch (cause) {
    throw connectionFailure(cause, attempt);
  }
}

/** An error of a token server without a scope is about the credentials alone. */
function explain(
  error: RegistryError,
  credentials: Credentials | undefined,
  { upstream, keys }: RequestContext,
): RegistryError {
  const key = keys?.credentials;
  if (key === undefined || (error.status !== 401 && error.status !== 403)) return error;
  const fault = credentials
    ? `the credentials of upstream ${upstream} were refused: check ${key}`
    : `the upstream requires credentials, and none are configured: set ${key}`;
  const message = `${upstream}: token request: status ${error.status} (${error.code}): ${fault}`;
  return new RegistryError(error.code, message, { status: error.status });
}

/**
 * The challenge's scope takes precedence. But some ask for `pull` whatever the request was, and they need not name the source of a mount.
 */
function chooseScope(asked: string | undefined, own: string): string {
  const [first = '', ...reads] = own.split(' ');
  if (!first.endsWith(':pull,push')) return asked || own;
  const written = asked && /\bpush\b/.test(asked) ? asked : first;
  return [...new Set([...written.split(' '), ...reads])].join(' ');
}

interface TokenRequest {
  readonly upstream: string;
  readonly transport: Transport;
  readonly query: Readonly<Record<string, string>>;
  readonly credentials: Credentials | undefined;
}

/** OAuth2 with an identity token; undefined without one, or where the server knows only GET. */
async function refresh(
  realm: URL,
  { transport, query, credentials, upstream }: TokenRequest,
): Promise<Dispatcher.ResponseData | undefined> {
  if (!credentials || !('identityToken' in credentials)) return undefined;
  const form = {
    grant_type: 'refresh_token',
    refresh_token: credentials.identityToken,
    client_id: CLIENT_ID,
    ...query,
  };
  const headers = { 'content-type': 'application/x-www-form-urlencoded' };
  const response = await transport.send(realm, {
    method: 'POST',
    upstream,
    headers,
    body: `${new URLSearchParams(form)}`,
  });
  if (![404, 405].includes(response.statusCode)) return response;
  discard(response);
  return undefined;
}

function ask(realm: URL, { transport, query, credentials, upstream }: TokenRequest): Promise<Dispatcher.ResponseData> {
  const url = new URL(realm);
  const { scope = '', ...rest } = query;
  for (const [name, value] of Object.entries(rest)) url.searchParams.set(name, value);
  url.searchParams.delete('scope');
  for (const each of scope.split(' ')) url.searchParams.append('scope', each);
  const headers = credentials ? { authorization: basic(credentials) } : undefined;
  return transport.send(url, { method: 'GET', upstream, headers: { ...headers } });
}

async function readToken(response: Dispatcher.ResponseData, attempt: RequestContext): Promise<unknown> {
  if (response.statusCode < 200 || response.statusCode > 299) {
    discard(response);
    throw badAnswer(attempt, `status ${response.statusCode} instead of a token`);
  }
  const bytes = await readLimited(response.body, MAX_TOKEN_BYTES);
  try {
    return parseJson(bytes);
  } catch {
    // The cause would quote the answer, and with it the token.
    throw badAnswer(attempt, 'the answer is not JSON');
  }
}

function parseToken(answer: unknown, attempt: RequestContext): Grant {
  const { data } = tokenSchema.safeParse(answer);
  const token = data?.token || data?.access_token;
  if (!token || !/^[\x21-\x7e]+$/.test(token)) throw badAnswer(attempt, 'the answer has no token');
  const seconds = Math.min(data.expires_in ?? DEFAULT_TTL_SECONDS, MAX_TTL_SECONDS);
  // A token that expires on its way costs an extra request: a tenth of its lifetime is subtracted.
  return { authorization: `Bearer ${token}`, ttlMs: seconds * 900 };
}

// Token realms: where an upstream directs us and our credentials. Not every address is acceptable.

interface RealmRules {
  /** Of the upstream. */
  readonly url: URL;
  /** Additional hosts, with their ports, that the configuration trusts with the upstream's credentials. */
  readonly tokenRealms: readonly string[];
}

/** Customers have their own hosts below these, although the public suffix list does not include them. */
const SHARED_DOMAINS: readonly string[] = ['amazonaws.com', 'azurecr.io', 'jfrog.io'];

/** Throws 502 for a realm that is not an http(s) URL, less secure than the upstream, or neither in its domain nor configured. */
export async function parseRealm(text: string, rules: RealmRules, attempt: RequestContext): Promise<URL> {
  const realm = URL.parse(text);
  if (!realm || !['http:', 'https:'].includes(realm.protocol)) throw badAnswer(attempt, 'the token realm is not a URL');
  if (rules.url.protocol === 'https:' && realm.protocol !== 'https:') {
    throw badAnswer(attempt, 'the token realm is not https, as the upstream is');
  }
  if (!isTrustedRealm(realm, rules) && !(await isSameDomain(realm, rules.url))) {
    const reason = `the token realm ${realm.host} is neither in the upstream's domain nor in tokenRealms of its entry`;
    throw badAnswer(attempt, reason);
  }
  realm.username = '';
  realm.password = '';
  return realm;
}

/** Whether the realm is at the upstream's own host, or at a configured one: its address may then be private. */
function isTrustedRealm(realm: URL, { url, tokenRealms }: RealmRules): boolean {
  return bareHost(realm.hostname) === bareHost(url.hostname) || tokenRealms.includes(realm.host);
}

async function isSameDomain(a: URL, b: URL): Promise<boolean> {
  // The list of public suffixes takes 200 KB.
  const { getDomain } = await import('tldts');
  const domain = getDomain(b.hostname, { allowPrivateDomains: true });
  if (domain === null || SHARED_DOMAINS.some(shared => domain === shared || domain.endsWith(`.${shared}`)))
    return false;
  return getDomain(a.hostname, { allowPrivateDomains: true }) === domain;
}

/** The challenge of a 401, RFC 9110 section 11.6.1. `scheme` and the names of `parameters` are lower-case. */
interface Challenge {
  readonly scheme: string;
  readonly parameters: ReadonlyMap<string, string>;
}

/**
 * A scheme may have a token68 in place of parameters: it is parsed as a word, and skipped. Some servers use a semicolon in place of a
 * comma.
 */
const PART = /([A-Za-z0-9!#$%&'*+.^_`|~/-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,;"]+)))?[\s,;]*/gy;

/** The challenges in order; anything after the first syntax error is ignored. */
export function parseChallenges(header: string): readonly Challenge[] {
  const challenges: { scheme: string; parameters: Map<string, string> }[] = [];
  for (const [, word = '', quoted, plain] of header.replace(/^[\s,;]+/, '').matchAll(PART)) {
    const value = quoted?.replace(/\\(.)/g, '$1') ?? plain;
    if (value === undefined) challenges.push({ scheme: word.toLowerCase(), parameters: new Map() });
    else challenges.at(-1)?.parameters.set(word.toLowerCase(), value);
  }
  return challenges;
}

/** The challenge that we can answer: bearer before basic, unless it has no realm. */
export function findChallenge(header: string): Challenge | undefined {
  const challenges = parseChallenges(header);
  const [bearer, basic] = ['bearer', 'basic'].map(wanted => challenges.find(({ scheme }) => scheme === wanted));
  return bearer?.parameters.get('realm') || !basic ? bearer : basic;
}
