// Forms of pages, protected against cross-site requests: a form is only accepted from our own origin, and with the token that the browser
// has in a cookie.
import { randomBytes, timingSafeEqual } from 'node:crypto';
import type { Context, MiddlewareHandler } from 'hono';
import { getCookie, setCookie } from 'hono/cookie';
import { csrf } from 'hono/csrf';
import { html } from 'hono/html';
import { ApiError } from '../../submit/errors.ts';
import { callerOf } from '../middleware/authentication.ts';
import { type BodyLimits, withRaw } from '../wave/json-body.ts';
import type { Html } from './parts.ts';

declare module 'hono' {
  interface ContextVariableMap {
    /** The form token issued with this response, to a browser that had none. */
    formToken: string;
  }
}

export const LOGIN_PATH = '/console/login';

const FIELD = 'form';
const TOKEN_BYTES = 32;
const FORM_TYPE = /^(?:application\/x-www-form-urlencoded|multipart\/form-data) *(?:;|$)/i;
const MULTIPART = /^multipart\//i;
const MAX_PARTS = 100;

/** Goes before the authentication of pages. Refuses forms from other origins with 403. */
export function createFormGuard(publicUrl: URL | undefined): MiddlewareHandler {
  // Only the host is compared: a proxy may have terminated https.
  const isOwn = (origin: string, c: Context) =>
    origin === publicUrl?.origin || URL.parse(origin)?.host === (c.req.header('Host') ?? new URL(c.req.url).host);
  const check = csrf({ origin: isOwn });
  return async (c, next) => {
    await check(c, async () => {}).catch(() => {
      throw new ApiError(403, 'forms are only accepted from pages of this service');
    });
    await next();
  };
}

/**
 * The result of `work` with the fields of a form, and the files selected in it. Throws ApiError: 415 for a body that is not a form, 413,
 * 400 for one that cannot be read, or 403 for a form that was not issued to this browser, which reloading the page fixes; UNAVAILABLE while
 * other bodies use the memory.
 */
export function withForm<T>(
  c: Context,
  limits: BodyLimits,
  work: (fields: URLSearchParams, files: ReadonlyMap<string, File>) => Promise<T>,
): Promise<T> {
  const type = c.req.header('Content-Type') ?? '';
  if (!FORM_TYPE.test(type)) throw new ApiError(415, 'expected the form of a page');
  return withRaw(c, limits, async bytes => {
    const { fields, files } = await parseForm(bytes, type);
    const token = getCookie(c, cookieName(realmOf(c), 'form')) ?? '';
    if (token === '' || !isSame(token, fields.get(FIELD) ?? ''))
      throw new ApiError(403, 'this form was issued to another browser, or has expired: reload the page');
    fields.delete(FIELD);
    return work(fields, files);
  });
}

async function parseForm(bytes: Uint8Array, type: string) {
  const files = new Map<string, File>();
  if (!MULTIPART.test(type)) return { fields: new URLSearchParams(new TextDecoder().decode(bytes)), files };
  requireFewParts(bytes, type);
  const fields = new URLSearchParams();
  for (const [name, value] of await readMultipart(bytes, type)) {
    if (typeof value === 'string') fields.append(name, value);
    // Without a choice a browser sends a file without a name and bytes.
    else if (value.size > 0) files.set(name, value);
  }
  return { fields, files };
}

/** Counted before anything is parsed. */
function requireFewParts(bytes: Uint8Array, type: string): void {
  const [, boundary = ''] = /\bboundary="?([^\s";]{1,70})/i.exec(type) ?? [];
  const body = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let parts = 0;
  for (let at = body.indexOf(`--${boundary}`); at >= 0; at = body.indexOf(`--${boundary}`, at + boundary.length + 2)) {
    parts += 1;
    if (boundary === '' || parts > MAX_PARTS)
      throw new ApiError(400, `a form has a boundary, and at most ${MAX_PARTS} parts`);
  }
}

async function readMultipart(bytes: Uint8Array, type: string): Promise<FormData> {
  try {
    return await new Response(new Uint8Array(bytes), { headers: { 'Content-Type': type } }).formData();
  } catch (error) {
    throw new ApiError(400, 'the form cannot be read', { cause: error });
  }
}

/** A form for a change. */
export function postForm(
  c: Context,
  action: string,
  body: Html | readonly Html[],
  { hasFiles = false }: { readonly hasFiles?: boolean } = {},
): Html {
  const type = hasFiles && html` enctype="multipart/form-data"`;
  return html`<form method="post" action="${action}"${type}><input type="hidden" name="${FIELD}" value="${tokenOf(c)}">${body}</form>`;
}

/** A button with a confirmation, without a script, for an action that cannot be undone. */
export function confirmed(
  c: Context,
  action: string,
  { what, sure, id }: { what: string; sure: string; id?: string },
): Html {
  const form = postForm(
    c,
    action,
    html`${id !== undefined && html`<input type="hidden" name="id" value="${id}">`}<button class="danger little">${sure}</button>`,
  );
  return html`<details class="confirm"><summary>${what}</summary>${form}</details>`;
}

/** The token of the browser; if it has none, a new one is issued with this response. */
function tokenOf(c: Context): string {
  const name = cookieName(realmOf(c), 'form');
  const given = getCookie(c, name) ?? c.get('formToken');
  if (given) return given;
  const made = randomBytes(TOKEN_BYTES).toString('base64url');
  c.set('formToken', made);
  setCookie(c, name, made, cookieOptions(c));
  return made;
}

function isSame(token: string, sent: string): boolean {
  const [one, other] = [Buffer.from(token), Buffer.from(sent)];
  return one.byteLength === other.byteLength && timingSafeEqual(one, other);
}

/** `address`: our address for clients. With https, the `__Host-` prefix prevents other hosts of the domain from setting the cookie. */
export function cookieName(address: string, what: 'form' | 'session'): string {
  return isSecure(address) ? `__Host-veneer-${what}` : `veneer-${what}`;
}

export function cookieOptions(c: Context) {
  return { path: '/', httpOnly: true, sameSite: 'Strict', secure: isSecure(realmOf(c)) } as const;
}

function isSecure(address: string): boolean {
  return address.startsWith('https:');
}

/** Our address for clients: `publicUrl`, or else the address of the request. */
export function realmOf(c: Context): string {
  return c.get('rights').realm;
}

/** The caller, with a button to log out or a link to log in; only the caller if logging in is not possible. */
export function sessionForm(c: Context, describe: string): Html {
  const isKnown = callerOf(c).kind !== 'anonymous';
  if (getCookie(c, cookieName(realmOf(c), 'session')) && isKnown)
    return html`<span>${describe}</span>${postForm(c, '/console/logout', html`<button class="link">Log out</button>`)}`;
  if (isKnown) return html`<span>${describe}</span>`;
  return html`<a href="${loginAddress(c)}">Log in</a>`;
}

/** The login page, which returns to the requested page. */
export function loginAddress(c: Context): string {
  const { pathname, search } = new URL(c.req.url);
  const next = pathname.startsWith(LOGIN_PATH) ? '/console' : `${pathname}${search}`;
  return `${LOGIN_PATH}?next=${encodeURIComponent(next)}`;
}
