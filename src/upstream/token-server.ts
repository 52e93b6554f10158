// Getting a token from the server that a challenge names. The distribution project's token and OAuth2 specifications.
import type { Dispatcher } from 'undici';
import { z } from 'zod';
import { parseJson } from '../oci/json.ts';
import type { Challenge } from './challenge.ts';
import { basic, type Credentials } from './credentials.ts';
import type { Dialer } from './dialer.ts';
import { type Attempt, badAnswer, connectionFailure, readLimited, responseFailure } from './failure.ts';
import { isTrustedRealm, parseRealm, type RealmRules } from './realm.ts';
import { discard } from './response.ts';

export interface TokenServerOptions {
  readonly upstream: string;
  readonly rules: RealmRules;
  /** To hosts that are trusted with the credentials, and to all others of the upstream's domain. */
  readonly dialers: { readonly own: Dialer; readonly guarded: Dialer };
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

/** Null counts as absent, as it does to clients written in Go; what makes no sense counts as absent, too. */
const tokenSchema = z.object({
  token: z.string().nullish().catch(undefined),
  access_token: z.string().nullish().catch(undefined),
  expires_in: z.number().positive().nullish().catch(undefined),
});

/** Throws 502 for a realm that must not have our credentials and for an answer without a token, else the server's own error. */
export async function fetchToken(
  { parameters }: Challenge,
  { credentials, scope }: { readonly credentials: Credentials | undefined; readonly scope: string },
  { upstream, rules, dialers }: TokenServerOptions,
): Promise<Grant> {
  const attempt: Attempt = { upstream, action: 'token request', missing: 'UNAUTHORIZED' };
  const realm = parseRealm(parameters.get('realm') ?? '', rules, attempt);
  const dialer = isTrustedRealm(realm, rules) ? dialers.own : dialers.guarded;
  const service = parameters.get('service');
  const query = { ...(service && { service }), scope: chooseScope(parameters.get('scope'), scope) };
  try {
    const request = { dialer, query, credentials };
    const response = (await refresh(realm, request)) ?? (await ask(realm, request));
    if (response.statusCode >= 400) throw await responseFailure(response, attempt);
    return parseToken(await readToken(response, attempt), attempt);
  } catch (cause) {
    throw connectionFailure(cause, attempt);
  }
}

/** The challenge knows best. But some ask for `pull` whatever the request was, and none has to name what a mount reads from. */
function chooseScope(asked: string | undefined, own: string): string {
  const [first = '', ...reads] = own.split(' ');
  if (!first.endsWith(':pull,push')) return asked || own;
  const written = asked && /\bpush\b/.test(asked) ? asked : first;
  return [...new Set([...written.split(' '), ...reads])].join(' ');
}

interface TokenRequest {
  readonly dialer: Dialer;
  readonly query: Readonly<Record<string, string>>;
  readonly credentials: Credentials | undefined;
}

/** OAuth2 with an identity token; undefined without one, or where the server knows only GET. */
async function refresh(
  realm: URL,
  { dialer, query, credentials }: TokenRequest,
): Promise<Dispatcher.ResponseData | undefined> {
  if (!credentials || !('identityToken' in credentials)) return undefined;
  const form = {
    grant_type: 'refresh_token',
    refresh_token: credentials.identityToken,
    client_id: CLIENT_ID,
    ...query,
  };
  const headers = { 'content-type': 'application/x-www-form-urlencoded' };
  const response = await dialer.send(realm, { method: 'POST', headers, body: `${new URLSearchParams(form)}` });
  if (![404, 405].includes(response.statusCode)) return response;
  discard(response);
  return undefined;
}

function ask(realm: URL, { dialer, query, credentials }: TokenRequest): Promise<Dispatcher.ResponseData> {
  const url = new URL(realm);
  const { scope = '', ...rest } = query;
  for (const [name, value] of Object.entries(rest)) url.searchParams.set(name, value);
  url.searchParams.delete('scope');
  for (const each of scope.split(' ')) url.searchParams.append('scope', each);
  const headers = credentials ? { authorization: basic(credentials) } : undefined;
  return dialer.send(url, { method: 'GET', headers: { ...headers } });
}

async function readToken(response: Dispatcher.ResponseData, attempt: Attempt): Promise<unknown> {
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

function parseToken(answer: unknown, attempt: Attempt): Grant {
  const { data } = tokenSchema.safeParse(answer);
  const token = data?.token || data?.access_token;
  if (!token || !/^[\x21-\x7e]+$/.test(token)) throw badAnswer(attempt, 'the answer has no token');
  const seconds = Math.min(data.expires_in ?? DEFAULT_TTL_SECONDS, MAX_TTL_SECONDS);
  // A token that ends on its way to the upstream costs one more request: a tenth of its life is slack.
  return { authorization: `Bearer ${token}`, ttlMs: seconds * 900 };
}
