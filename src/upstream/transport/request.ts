// Sends one read to an upstream: authorised, with redirects followed manually, and failures mapped to RegistryErrors. Reads documents whole.
import type { Readable } from 'node:stream';
import pLimit from 'p-limit';
import { RegistryError } from '../../oci/errors.ts';
import { MAX_MANIFEST_BYTES } from '../../oci/manifest.ts';
import type { Authorizer } from '../auth/authorizer.ts';
import { badAnswer, connectionFailure, type RequestContext, readLimited, responseFailure } from '../failure.ts';
import type { RequestLimits } from '../limits/limits.ts';
import { type Answer, singleHeader } from './response.ts';
import type { Transport, TransportRequest } from './transport.ts';

/** The transports. */
export interface Transports {
  /** To the upstream's own host. */
  readonly own: Transport;
  /** To another host, after a redirect. */
  elsewhere(url: URL): Transport;
  /** Hooks for requests to the upstream's own host. */
  readonly requestLimits?: RequestLimits | undefined;
  /** Our authorizer for such a host; undefined where we must stay anonymous. It is independent of the upstream's. */
  authorizerAt?(url: URL): Authorizer | undefined;
}

export interface SendOptions {
  readonly method: TransportRequest['method'];
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal | undefined;
  readonly attempt: RequestContext;
  readonly transports: Transports;
  /** Absent for anonymous requests, such as to a layer's own address. */
  readonly auth?: { readonly authorizer: Authorizer; readonly scope: string } | undefined;
  /** Called for each attempt to send it. */
  readonly body?: Uint8Array | (() => Promise<Readable>) | undefined;
}

interface ReadOptions extends SendOptions {
  readonly method: 'GET' | 'HEAD';
  /** Statuses that are not errors to the caller. */
  readonly tolerated?: readonly number[] | undefined;
}

const MAX_REDIRECTS = 5;
const REDIRECTS: readonly number[] = [301, 302, 303, 307, 308];

/**
 * The answer with status 2xx, or a tolerated one; the caller ends its body. Throws RegistryError, or the signal's reason when that aborts.
 * A 401 is answered once for each host, with our credentials for it, and a 403 to a cached Authorization with a new one: no host gets
 * another's Authorization.
 */
export async function read(url: URL, options: ReadOptions): Promise<Answer> {
  try {
    const response = await follow(url, options, await sendAuthorized(url, options));
    return options.tolerated?.includes(response.statusCode)
      ? response
      : await requireSuccess(response, options.attempt);
  } catch (cause) {
    options.signal?.throwIfAborted();
    throw connectionFailure(cause, options.attempt);
  }
}

/** The answer, if its status is 2xx. Otherwise throws RegistryError, and ends the body. */
export async function requireSuccess(response: Answer, attempt: RequestContext): Promise<Answer> {
  if (response.statusCode >= 400) throw await responseFailure(response, attempt);
  if (response.statusCode < 300) return response;
  await response.body.dump();
  throw badAnswer(attempt, `unexpected status ${response.statusCode}`);
}

/** The answer, whatever its status; the caller ends its body. Throws as Transport.send does, and what the authorizer throws. */
export function sendAuthorized(url: URL, options: SendOptions): Promise<Answer> {
  return converse(url, options, ownRoute(options));
}

/** The transport and identity for a host. */
interface Route {
  readonly transport: Transport;
  readonly requestLimits?: RequestLimits | undefined;
  readonly auth?: SendOptions['auth'];
}

function ownRoute({ transports: { own: transport, requestLimits }, auth }: SendOptions): Route {
  return { transport, requestLimits, auth };
}

function routeElsewhere(url: URL, { transports, auth }: SendOptions): Route {
  const authorizer = auth && transports.authorizerAt?.(url);
  return { transport: transports.elsewhere(url), auth: authorizer && { authorizer, scope: auth.scope } };
}

async function converse(url: URL, options: SendOptions, route: Route): Promise<Answer> {
  const { auth } = route;
  const sent = auth?.authorizer.find(auth.scope);
  let response = await send(url, options, route, sent);
  if (auth && sent && response.statusCode === 403) {
    // Some registries answer 403 to an expired token. Without one, they send a challenge.
    await response.body.dump();
    auth.authorizer.forget(auth.scope);
    response = await send(url, options, route);
  }
  const challenge = [response.headers['www-authenticate'] ?? []].flat().join(', ');
  if (response.statusCode !== 401 || !auth || !challenge) return response;
  await response.body.dump();
  const answer = await auth.authorizer.answer(auth.scope, challenge, { refused: sent, signal: options.signal });
  const second = await send(url, options, route, answer);
  if (second.statusCode === 401) auth.authorizer.forget(auth.scope);
  return second;
}

async function follow(from: URL, options: ReadOptions, first: Answer): Promise<Answer> {
  const { attempt } = options;
  let url = from;
  let response = first;
  let isSameOrigin = true;
  for (let hops = 0; REDIRECTS.includes(response.statusCode); hops++) {
    await response.body.dump();
    if (hops === MAX_REDIRECTS) throw badAnswer(attempt, `more than ${MAX_REDIRECTS} redirects`);
    url = parseLocation(singleHeader(response.headers, 'location'), url, attempt);
    // A host that redirects back to us chooses the path: our credentials must not be used for that.
    isSameOrigin &&= url.origin === from.origin;
    response = await converse(url, options, isSameOrigin ? ownRoute(options) : routeElsewhere(url, options));
  }
  return response;
}

/** The target of a redirect. Throws 502 for one that is less secure than `from`, or not http(s). */
export function parseLocation(location: unknown, from: URL, attempt: RequestContext): URL {
  const url = typeof location === 'string' ? URL.parse(location, from) : null;
  if (!url) throw badAnswer(attempt, 'a redirect without a valid Location');
  if (!['http:', 'https:'].includes(url.protocol)) throw badAnswer(attempt, 'a redirect that is not http or https');
  if (from.protocol === 'https:' && url.protocol !== 'https:')
    throw badAnswer(attempt, 'a redirect from https to http');
  url.username = '';
  url.password = '';
  return url;
}

async function send(
  url: URL,
  { method, headers, body, signal, attempt }: SendOptions,
  { transport, requestLimits }: Route,
  authorization?: string,
): Promise<Answer> {
  const opened = typeof body === 'function' ? await body() : body;
  const sent = { ...headers, ...(authorization && { authorization }) };
  const response = await transport.send(url, {
    method,
    upstream: attempt.upstream,
    headers: sent,
    body: opened,
    signal,
    beforeAttempt: requestLimits?.waitForRate,
  });
  requestLimits?.observe(response.headers);
  return response;
}

/** Throws DENIED for what is not http or https. */
export function requireHttp(url: URL): void {
  if (!['http:', 'https:'].includes(url.protocol)) {
    throw new RegistryError('DENIED', `${url.protocol} addresses cannot be opened; use http or https`);
  }
}

/**
 * The whole body of a document, of at most MAX_MANIFEST_BYTES: many at once, but few large ones, as each is in memory until it is stored
 * and sent. The rest of a large one waits until fewer others are in progress. Throws TooLong.
 */
export type ReadDocument = (body: AsyncIterable<Uint8Array>) => Promise<Uint8Array>;

/** Almost all documents are far smaller. */
const SMALL_BYTES = 512 * 1024;
const MAX_LARGE = 2;

export function createReadDocument(): ReadDocument {
  const limit = pLimit(MAX_LARGE);

  return async body => {
    const ended = Promise.withResolvers<void>();
    let acquired: Promise<void> | undefined;

    async function* limited(): AsyncGenerator<Uint8Array> {
      let size = 0;
      for await (const chunk of body) {
        size += chunk.byteLength;
        if (size > SMALL_BYTES) {
          acquired ??= new Promise(begin => {
            void limit(() => {
              begin();
              return ended.promise;
            });
          });
          await acquired;
        }
        yield chunk;
      }
    }

    try {
      return await readLimited(limited(), MAX_MANIFEST_BYTES);
    } finally {
      ended.resolve();
    }
  };
}
