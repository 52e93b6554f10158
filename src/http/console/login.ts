// Browser login: accepts the same users, access tokens and tokens of the OIDC issuer as everywhere, and opens a session in a cookie.

import { type Context, Hono, type MiddlewareHandler } from 'hono';
import { deleteCookie, getCookie, setCookie } from 'hono/cookie';
import { html } from 'hono/html';
import type { Access, Caller } from '../../access/access.ts';
import { passwordCredentials } from '../../access/authorization.ts';
import { RegistryError } from '../../oci/errors.ts';
import { clientAddress } from '../middleware/authentication.ts';
import { noteError } from '../middleware/errors.ts';
import { isFollowedLink } from '../middleware/pages.ts';
import { noteAction } from '../middleware/request-log.ts';
import type { BodyLimits } from '../wave/json-body.ts';
import { cookieName, cookieOptions, LOGIN_PATH, postForm, realmOf, withForm } from './forms.ts';
import { type Page, type ShowPage, showAgain } from './layout.ts';
import { note } from './parts.ts';

/** The caller of the browser's session; undefined without one. */
type FindSession = (c: Context) => Promise<Caller | undefined>;

export function createFindSession({ sessions }: Pick<Access, 'sessions'>, publicUrl: string | undefined): FindSession {
  return async c => {
    const cookie = sessions && getCookie(c, cookieName(publicUrl ?? c.req.url, 'session'));
    return cookie ? sessions.find(cookie, clientAddress(c) ?? '') : undefined;
  };
}

/** Goes before the authentication of pages, where logging in is possible. */
export function createArrival(): MiddlewareHandler {
  return async (c, next) => (isFollowedLink(c) ? showAgain(c) : next());
}

interface LoginDeps {
  readonly sessions: NonNullable<Access['sessions']>;
  readonly show: ShowPage;
  readonly body: BodyLimits;
}

export function createLogin({ sessions, show, body }: LoginDeps): Hono {
  const app = new Hono();

  app.get(LOGIN_PATH, c => show(c, loginPage(c, { next: nextOf(c.req.query('next')) })));
  app.post(LOGIN_PATH, (c: Context) =>
    withForm(c, body, async fields => {
      const next = nextOf(fields.get('next') ?? undefined);
      try {
        noteAction(c, 'login');
        const credentials = passwordCredentials(fields.get('user') ?? '', fields.get('password') ?? '');
        const { cookie, subject, expiresAt } = await sessions.open(credentials, clientAddress(c) ?? '');
        noteAction(c, 'login', { caller: subject });
        setCookie(c, cookieName(realmOf(c), 'session'), cookie, { ...cookieOptions(c), expires: expiresAt });
        return c.redirect(next, 303);
      } catch (error) {
        if (!(error instanceof RegistryError)) throw error;
        return refuse(c, error, next);
      }
    }),
  );
  app.post('/console/logout', (c: Context) =>
    withForm(c, body, async () => {
      noteAction(c, 'logout');
      const name = cookieName(realmOf(c), 'session');
      await sessions.end(getCookie(c, name) ?? '');
      deleteCookie(c, name, cookieOptions(c));
      return c.redirect('/console', 303);
    }),
  );
  return app;

  function refuse(c: Context, error: RegistryError, next: string): Response | Promise<Response> {
    const { code, message, retryAfterSeconds } = error;
    const status = error.status === 429 || error.status === 503 ? error.status : 401;
    noteError(c, { status, code, message });
    if (retryAfterSeconds !== undefined) c.header('Retry-After', String(Math.ceil(retryAfterSeconds)));
    return show(c, { ...loginPage(c, { next, fault: message }), status });
  }
}

function loginPage(c: Context, { next, fault }: { readonly next: string; readonly fault?: string }): Page {
  const fields = html`<input type="hidden" name="next" value="${next}">
<div class="field"><label for="user">User</label>
<input id="user" name="user" autocomplete="username" autocapitalize="none" spellcheck="false" aria-describedby="user-hint">
<p class="hint" id="user-hint">Any name, or none, with an access token.</p></div>
<div class="field"><label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required aria-describedby="password-hint">
<p class="hint" id="password-hint">Or an access token (<code>vnr_…</code>), or a token of the OIDC issuer.</p></div>
<button>Log in</button>`;
  const body = html`${fault !== undefined && html`<div role="alert">${note('bad', fault)}</div>`}
<div class="card narrow">${postForm(c, LOGIN_PATH, fields)}</div>`;
  return { title: 'Log in', lead: 'With the same users, passwords and tokens as docker login.', body };
}

/** Only our own pages: a link could otherwise redirect anywhere. */
function nextOf(text: string | undefined): string {
  const url = URL.parse(text ?? '', 'http://veneer');
  const isOurs = url?.host === 'veneer' && /^\/(?:console(?:\/|$)|view\/)/.test(url.pathname);
  return isOurs ? `${url.pathname}${url.search}` : '/console';
}
