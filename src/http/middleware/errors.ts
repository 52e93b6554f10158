// The only place where errors become HTTP responses: the registry's JSON under /v2 and for its tokens, the API's message elsewhere.
import { type ServerResponse, STATUS_CODES } from 'node:http';
import type { Context, Hono } from 'hono';
import { HTTPException } from 'hono/http-exception';
import type { Logger } from 'pino';
import { MissingRight } from '../../access/access.ts';
import { isDiskFull } from '../../content/free-space.ts';
import { RegistryError } from '../../oci/errors.ts';
import { ApiError } from '../../submit/errors.ts';
import { reasonPhrase } from '../distribution/mirror.ts';
import { setChallenge } from './authentication.ts';

const DISK_FULL = 'the disk of Veneer is full: this cannot be stored. Pulls still work, and deletions free space';
const UNUSABLE = 'records cannot be read or written: the log of Veneer has the cause and the remedy';

/** Statuses that an upstream may send, and our own. */
const STATUSES = [
  400, 401, 402, 403, 404, 405, 406, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 421, 422, 423, 424, 426, 428,
  429, 431, 451, 500, 501, 502, 503, 504, 507,
] as const;

/** Renders an error as a page; undefined for a client that is not a browser requesting a page. */
export type ShowError = (c: Context, error: ShownError) => Response | Promise<Response> | undefined;

export interface ShownError {
  readonly status: (typeof STATUSES)[number];
  readonly message: string;
}

/** Errors without a code are UNKNOWN to the client, and logged with their cause. */
export function createErrorHandler(
  log: Logger,
  show?: ShowError,
): (error: Error, c: Context) => Response | Promise<Response> {
  return (error, c) => {
    const known = toRegistryError(error);
    const hasLeft = c.req.raw.signal.aborted;
    // Anything with a message for the client, such as an unsupported request, is sufficiently covered by its line in the access log.
    const isExpected = error instanceof RegistryError || error instanceof ApiError;
    if (known.status >= 500 && !isExpected && !hasLeft)
      log.error({ err: error, method: c.req.method, requestId: c.get('request')?.id }, 'request failed');
    if (error instanceof MissingRight) setChallenge(c, error);
    if (known.retryAfterSeconds !== undefined) c.header('Retry-After', String(Math.ceil(known.retryAfterSeconds)));
    return respond(c, known, show);
  };
}

/** 404 for a path without a route, and 405, with Allow, for a path whose routes have other methods. */
export function createNotFound(
  { router }: Pick<Hono, 'router'>,
  show?: ShowError,
): (c: Context) => Response | Promise<Response> {
  const hasRoute = (method: string, path: string) =>
    router.match(method, path)[0].some(([[, { method: own }]]) => own !== 'ALL');
  return c => {
    const allowed = METHODS.filter(method => hasRoute(method, c.req.path));
    const message = `there is no such route for ${c.req.method}`;
    // A route with this method exists, but declined the path.
    const isTaken = allowed.includes(c.req.method === 'HEAD' ? 'GET' : c.req.method);
    if (allowed.length === 0 || isTaken)
      return respond(c, new RegistryError('UNKNOWN', message, { status: 404 }), show);
    const methods = allowed.flatMap(method => (method === 'GET' ? [method, 'HEAD'] : [method])).join(', ');
    c.header('Allow', methods);
    return respond(c, new RegistryError('UNSUPPORTED', `${message}: there is one for ${methods}`), show);
  };
}

const METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'];

function respond(c: Context, error: RegistryError, show?: ShowError): Response | Promise<Response> {
  const status = STATUSES.find(known => known === error.status) ?? (error.status < 500 ? 400 : 500);
  const message = printable(error.message);
  noteError(c, { status, code: error.code, message });
  const page = show?.(c, { status, message });
  if (page) return page;
  if (!/^\/(v2|token)/.test(c.req.path)) return c.json({ message }, status);
  setReasonPhrase(c, message);
  const { code, detail } = error;
  return c.json({ errors: [{ code, message, ...(detail !== undefined && { detail }) }] }, status);
}

/**
 * Container engines show the body of few errors, and the reason phrase of most: docs/prompt.md. The Node server passes on none that a
 * Response has.
 */
function setReasonPhrase(
  c: Pick<Context<{ Bindings: { readonly outgoing?: ServerResponse } }>, 'env'>,
  message: string,
): void {
  const outgoing = c.env?.outgoing;
  // Tokens are hidden, since proxies may log it.
  if (outgoing) outgoing.statusMessage = reasonPhrase(hideTokens(message));
}

interface NotedError {
  readonly status: number;
  readonly code: string;
  readonly message: string;
}

/** For the access log. Without a code, the HTTP status text. */
export function noteError(c: Context, { status, code, message }: NotedError): void {
  const facts = c.get('request');
  if (!facts) return;
  const name = code === 'UNKNOWN' && status < 500 ? (STATUS_CODES[status] ?? code) : code;
  facts.error = { code: name, message: hideTokens(message.slice(0, MAX_LOGGED_MESSAGE)) };
}

const MAX_LOGGED_MESSAGE = 2000;

/** As a single line: a message may quote what a client sent, and clients print it verbatim. */
export function printable(message: string): string {
  return message.replace(/[\p{Cc}\u2028\u2029]/gu, character => JSON.stringify(character).slice(1, -1));
}

/** Shortens each token, or request id, in the paths that a text contains. A slash may be written as %2F. */
export function hideTokens(text: string): string {
  return text.replace(/((?:wt|containers?|container-token)(?:\/|%2f))([0-9a-f]{4})[^/%\s]*/gi, '$1$2…');
}

const BUSY_SECONDS = 5;

function toRegistryError(error: Error): RegistryError {
  if (error instanceof RegistryError) return error;
  if (error instanceof ApiError) return new RegistryError('UNKNOWN', error.message, { status: error.status });
  if (error instanceof HTTPException) return new RegistryError('UNKNOWN', error.message, { status: error.status });
  if ('code' in error && error.code === 'EBUSY') {
    const message = 'records are locked by another program: try again';
    return new RegistryError('UNAVAILABLE', message, { status: 503, retryAfterSeconds: BUSY_SECONDS });
  }
  if ('code' in error && error.code === 'ERECORDCONFLICT') {
    const message = 'another request has changed the same meanwhile: try again';
    return new RegistryError('UNAVAILABLE', message, { status: 503, retryAfterSeconds: BUSY_SECONDS });
  }
  if ('code' in error && error.code === 'ERECORDSAWAY') {
    const message = 'the database of the records does not answer: try again';
    return new RegistryError('UNAVAILABLE', message, { status: 503, retryAfterSeconds: BUSY_SECONDS });
  }
  if ('code' in error && error.code === 'EIO') return new RegistryError('UNAVAILABLE', UNUSABLE, { status: 503 });
  if (isDiskFull(error)) return new RegistryError('UNAVAILABLE', DISK_FULL, { status: 507 });
  return new RegistryError('UNKNOWN', 'internal error: the log of Veneer has the cause');
}
