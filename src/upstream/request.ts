// One read from an upstream: authorised, its redirects followed by hand, its failure made a RegistryError.
import { type Dispatcher, request } from 'undici';
import { RegistryError } from '../oci/errors.ts';
import type { Authorizer } from './bearer.ts';
import { type Attempt, badAnswer, connectionFailure, responseFailure } from './failure.ts';

/** The ways to the network: `own` for the upstream's host, `guarded` for every other. */
export interface Dialers {
  readonly own: Dispatcher;
  readonly guarded: Dispatcher;
}

export interface ReadOptions {
  readonly method: 'GET' | 'HEAD';
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal | undefined;
  readonly attempt: Attempt;
  readonly dialers: Dialers;
  /** Absent where we are nobody, as at a layer's own address. */
  readonly auth?: { readonly authorizer: Authorizer; readonly scope: string };
}

const MAX_REDIRECTS = 5;
const REDIRECTS: readonly number[] = [301, 302, 303, 307, 308];

/**
 * The answer of status 2xx; the caller ends its body. Throws RegistryError, or the signal's reason when that aborts.
 * A 401 is answered once, at the first host alone: no other host gets an Authorization.
 */
export async function read(url: URL, options: ReadOptions): Promise<Dispatcher.ResponseData> {
  try {
    const response = await follow(url, options, await sendAuthorized(url, options));
    if (response.statusCode >= 400) throw await responseFailure(response, options.attempt);
    if (response.statusCode < 300) return response;
    await response.body.dump();
    throw badAnswer(options.attempt, `unexpected status ${response.statusCode}`);
  } catch (cause) {
    options.signal?.throwIfAborted();
    throw connectionFailure(cause, options.attempt);
  }
}

async function sendAuthorized(url: URL, options: ReadOptions): Promise<Dispatcher.ResponseData> {
  const { auth, signal } = options;
  const sent = auth?.authorizer.find(auth.scope);
  const response = await send(url, options, { dialer: options.dialers.own, authorization: sent });
  // Some registries say 403 to a token that has expired: the next request starts anew.
  if (response.statusCode === 403) auth?.authorizer.forget(auth.scope);
  const challenge = [response.headers['www-authenticate'] ?? []].flat().join(', ');
  if (response.statusCode !== 401 || !auth || !challenge) return response;
  await response.body.dump();
  const authorization = await auth.authorizer.answer(auth.scope, challenge, { refused: sent, signal });
  const second = await send(url, options, { dialer: options.dialers.own, authorization });
  if (second.statusCode === 401) auth.authorizer.forget(auth.scope);
  return second;
}

async function follow(
  from: URL,
  options: ReadOptions,
  first: Dispatcher.ResponseData,
): Promise<Dispatcher.ResponseData> {
  let url = from;
  let response = first;
  for (let hops = 0; REDIRECTS.includes(response.statusCode); hops++) {
    await response.body.dump();
    if (hops === MAX_REDIRECTS) throw badAnswer(options.attempt, `more than ${MAX_REDIRECTS} redirects`);
    url = parseLocation(response.headers.location, url, options.attempt);
    const authorization = url.origin === from.origin ? options.auth?.authorizer.find(options.auth.scope) : undefined;
    const dialer = url.origin === from.origin ? options.dialers.own : options.dialers.guarded;
    response = await send(url, options, { dialer, authorization });
  }
  return response;
}

/** Where a redirect leads. Throws 502 for what is less safe than `from`, or no http at all. */
export function parseLocation(location: unknown, from: URL, attempt: Attempt): URL {
  if (typeof location !== 'string' || !URL.canParse(location, from)) throw badAnswer(attempt, 'a redirect to nowhere');
  const url = new URL(location, from);
  if (!['http:', 'https:'].includes(url.protocol)) throw badAnswer(attempt, 'a redirect that is not http or https');
  if (from.protocol === 'https:' && url.protocol !== 'https:')
    throw badAnswer(attempt, 'a redirect from https to http');
  return url;
}

function send(
  url: URL,
  { method, headers, signal }: ReadOptions,
  { dialer, authorization }: { dialer: Dispatcher; authorization: string | undefined },
): Promise<Dispatcher.ResponseData> {
  return request(url, {
    dispatcher: dialer,
    method,
    ...(signal && { signal }),
    headers: { ...headers, 'accept-encoding': 'identity', ...(authorization && { authorization }) },
  });
}

/** Throws DENIED for what is not http or https. */
export function requireHttp(url: URL): void {
  if (!['http:', 'https:'].includes(url.protocol)) {
    throw new RegistryError('DENIED', `${url.protocol} addresses cannot be opened; use http or https`);
  }
}
