// One read from an upstream: authorised, its redirects followed by hand, its failure made a RegistryError.
import type { Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import { RegistryError } from '../oci/errors.ts';
import type { Authorizer } from './authorizer.ts';
import type { Dialer, DialerRequest } from './dialer.ts';
import { type Attempt, badAnswer, connectionFailure, responseFailure } from './failure.ts';
import type { Pace } from './gate.ts';

/** The ways to the network. */
export interface Dialers {
  /** To the upstream's own host. */
  readonly own: Dialer;
  /** To where a redirect leads, when that is another host. */
  elsewhere(url: URL): Dialer;
  /** Of what goes to the upstream's own host. */
  readonly pace?: Pace | undefined;
}

export interface SendOptions {
  readonly method: DialerRequest['method'];
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal | undefined;
  readonly attempt: Attempt;
  readonly dialers: Dialers;
  /** Absent where we are nobody, as at a layer's own address. */
  readonly auth?: { readonly authorizer: Authorizer; readonly scope: string } | undefined;
  /** Opened for each time that it is sent. */
  readonly body?: Uint8Array | (() => Promise<Readable>) | undefined;
}

export interface ReadOptions extends SendOptions {
  readonly method: 'GET' | 'HEAD';
}

const MAX_REDIRECTS = 5;
const REDIRECTS: readonly number[] = [301, 302, 303, 307, 308];

/**
 * The answer of status 2xx; the caller ends its body. Throws RegistryError, or the signal's reason when that aborts.
 * A 401 is answered once, at the first host alone, and a 403 to a kept answer with a new one: no other host gets an Authorization.
 */
export async function read(url: URL, options: ReadOptions): Promise<Dispatcher.ResponseData> {
  try {
    return await requireSuccess(await follow(url, options, await sendAuthorized(url, options)), options.attempt);
  } catch (cause) {
    options.signal?.throwIfAborted();
    throw connectionFailure(cause, options.attempt);
  }
}

/** The answer, if its status is 2xx. Throws RegistryError, and ends the body, for any other. */
export async function requireSuccess(
  response: Dispatcher.ResponseData,
  attempt: Attempt,
): Promise<Dispatcher.ResponseData> {
  if (response.statusCode >= 400) throw await responseFailure(response, attempt);
  if (response.statusCode < 300) return response;
  await response.body.dump();
  throw badAnswer(attempt, `unexpected status ${response.statusCode}`);
}

/** The answer, of whatever status; the caller ends its body. Throws as Dialer.send does, and what the authorizer throws. */
export async function sendAuthorized(url: URL, options: SendOptions): Promise<Dispatcher.ResponseData> {
  const { auth, signal } = options;
  const { own: dialer, pace } = options.dialers;
  const sendHome = (authorization?: string) => send(url, options, { dialer, pace, authorization });
  const sent = auth?.authorizer.find(auth.scope);
  let response = await sendHome(sent);
  if (auth && sent && response.statusCode === 403) {
    // Some registries say so to a token that has expired. Without one they say what they want.
    await response.body.dump();
    auth.authorizer.forget(auth.scope);
    response = await sendHome();
  }
  const challenge = [response.headers['www-authenticate'] ?? []].flat().join(', ');
  if (response.statusCode !== 401 || !auth || !challenge) return response;
  await response.body.dump();
  const second = await sendHome(await auth.authorizer.answer(auth.scope, challenge, { refused: sent, signal }));
  if (second.statusCode === 401) auth.authorizer.forget(auth.scope);
  return second;
}

async function follow(
  from: URL,
  options: ReadOptions,
  first: Dispatcher.ResponseData,
): Promise<Dispatcher.ResponseData> {
  const { attempt, dialers, auth } = options;
  let url = from;
  let response = first;
  let isHome = true;
  for (let hops = 0; REDIRECTS.includes(response.statusCode); hops++) {
    await response.body.dump();
    if (hops === MAX_REDIRECTS) throw badAnswer(attempt, `more than ${MAX_REDIRECTS} redirects`);
    url = parseLocation(response.headers.location, url, attempt);
    // Another host that sends us back chooses the path: our credentials are not for that.
    isHome &&= url.origin === from.origin;
    const authorization = isHome ? auth?.authorizer.find(auth.scope) : undefined;
    const way = isHome ? { dialer: dialers.own, pace: dialers.pace } : { dialer: dialers.elsewhere(url) };
    response = await send(url, options, { ...way, authorization });
  }
  return response;
}

/** Where a redirect leads. Throws 502 for what is less safe than `from`, or no http at all. */
export function parseLocation(location: unknown, from: URL, attempt: Attempt): URL {
  const url = typeof location === 'string' ? URL.parse(location, from) : null;
  if (!url) throw badAnswer(attempt, 'a redirect to nowhere');
  if (!['http:', 'https:'].includes(url.protocol)) throw badAnswer(attempt, 'a redirect that is not http or https');
  if (from.protocol === 'https:' && url.protocol !== 'https:')
    throw badAnswer(attempt, 'a redirect from https to http');
  url.username = '';
  url.password = '';
  return url;
}

interface Way {
  readonly dialer: Dialer;
  readonly pace?: Pace | undefined;
  readonly authorization: string | undefined;
}

async function send(
  url: URL,
  { method, headers, body, signal }: SendOptions,
  { dialer, pace, authorization }: Way,
): Promise<Dispatcher.ResponseData> {
  const opened = typeof body === 'function' ? await body() : body;
  const sent = { ...headers, ...(authorization && { authorization }) };
  const response = await dialer.send(url, { method, headers: sent, body: opened, signal, turn: pace?.turn });
  pace?.heard(response.headers);
  return response;
}

/** Throws DENIED for what is not http or https. */
export function requireHttp(url: URL): void {
  if (!['http:', 'https:'].includes(url.protocol)) {
    throw new RegistryError('DENIED', `${url.protocol} addresses cannot be opened; use http or https`);
  }
}
