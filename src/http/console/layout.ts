// The layout of every page: its head, the menu of pages visible to the caller, and security headers. Everything inserted into a page is
// escaped by `html`; `raw` must not be used.
import { createHash } from 'node:crypto';
import { STATUS_CODES } from 'node:http';
import { type Context, Hono } from 'hono';
import { html } from 'hono/html';
import { describeCaller } from '../../access/access.ts';
import { isAdmin } from '../middleware/authentication.ts';
import type { ShowError, ShownError } from '../middleware/errors.ts';
import { loginAddress, sessionForm } from './forms.ts';
import { type Html, note } from './parts.ts';
import { SCRIPT } from './script.ts';
import { ICON, STYLE } from './style.ts';

export interface Page {
  readonly title: string;
  /** One sentence under the title. */
  readonly lead?: Html | string | undefined;
  readonly body: Html | readonly Html[];
  /** Default: 200. */
  readonly status?: 200 | ShownError['status'] | undefined;
}

/** Responds with a page in the common layout. */
export type ShowPage = (c: Context, page: Page) => Response | Promise<Response>;

/**
 * Renders errors of pages as pages; unauthenticated callers are redirected to the login, if that is possible. Used where errors become HTTP
 * responses: undefined for clients other than browsers, and for anything but pages.
 */
export function createShowError(show: ShowPage): ShowError {
  return (c, { status, message }) => {
    if (!wantsPage(c) || !/^\/(?:console|view)(?:\/|$)/.test(c.req.path)) return undefined;
    if (status === 401 && c.req.method === 'GET' && c.get('rights')?.access.sessions)
      return c.redirect(loginAddress(c), 303);
    const title = status === 404 ? 'There is no such page' : (STATUS_CODES[status] ?? 'It failed');
    return show(c, { title, body: note(status < 500 ? 'warn' : 'bad', message), status });
  };
}

/**
 * Reloads the same page: after a link from another site the browser did not send its session, which is restricted to requests from our
 * pages.
 */
export function showAgain(c: Context): Response | Promise<Response> {
  for (const [name, value] of Object.entries(HEADERS)) c.header(name, value);
  const { pathname, search } = new URL(c.req.url);
  const head = html`<meta charset="utf-8"><title>Veneer</title><meta http-equiv="refresh" content="0">`;
  return c.html(
    html`<!doctype html><html lang="en"><head>${head}</head><body><a href="${pathname}${search}">Go on</a></body></html>`,
  );
}

/** Clients of the registry and of the API accept JSON, or anything. */
export function wantsPage(c: Context): boolean {
  return /\btext\/html\b/.test(c.req.header('Accept') ?? '');
}

interface MenuEntry {
  readonly path: string;
  readonly name: string;
  readonly isForAdmins?: boolean;
  /** Other paths that belong to this menu entry. */
  readonly others?: RegExp;
}

const MENU: readonly MenuEntry[] = [
  { path: '/console', name: 'Overview' },
  { path: '/console/builds', name: 'Builds', others: /^\/view\/(?:builds|mirrors)\// },
  { path: '/console/images', name: 'Images', others: /^\/view\/inspect$/ },
  { path: '/console/new', name: 'New image' },
  { path: '/console/storage', name: 'Storage' },
  { path: '/console/tokens', name: 'Tokens', others: /^\/view\/containers\// },
  { path: '/console/mirrors', name: 'Mirror set-up' },
  { path: '/console/rules', name: 'Rules', isForAdmins: true },
];

/** Allows only scripts and other resources of the service itself, no framing, and forms only to the service. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "form-action 'self'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
].join('; ');

const HEADERS = {
  'Content-Security-Policy': POLICY,
  'Cache-Control': 'no-store',
  // Without any referrer, browsers send `Origin: null` with forms.
  'Referrer-Policy': 'same-origin',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'X-Frame-Options': 'DENY',
} as const;

/** `isOn`: whether the console is enabled; without it pages have no menu. */
export function createShowPage({ version, isOn }: { readonly version: string; readonly isOn: boolean }): ShowPage {
  return (c, { title, lead, body, status = 200 }) => {
    for (const [name, value] of Object.entries(HEADERS)) c.header(name, value);
    return c.html(
      html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>${title} · Veneer</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="${ASSETS.style.address}">
<link rel="icon" href="${ASSETS.icon.address}">
<script src="${ASSETS.script.address}" type="module"></script>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header class="top">
<a class="brand" href="${isOn ? '/console' : '#content'}"><img src="${ASSETS.icon.address}" alt="">Veneer</a>
<div class="who muted small">${describeWho(c, isOn)}</div>
</header>
<div class="frame">
${isOn && menu(c)}
<main id="content" tabindex="-1">
<h1>${title}</h1>
${lead !== undefined && html`<p class="lead">${lead}</p>`}
${body}
</main>
</div>
<footer class="foot">Veneer ${version} · <a href="/openapi">the API</a></footer>
<div id="announce" role="status" class="skip"></div>
</body>
</html>`,
      status,
    );
  };
}

function menu(c: Context): Html {
  const here = c.req.path;
  const isHere = ({ path, others }: MenuEntry) => here === path || others?.test(here) === true;
  const entries = MENU.filter(({ isForAdmins }) => !isForAdmins || (c.get('rights') && isAdmin(c)));
  const items = entries.map(
    entry => html`<li><a href="${entry.path}"${isHere(entry) && html` aria-current="page"`}>${entry.name}</a></li>\n`,
  );
  return html`<nav class="menu" aria-label="Console"><ul>\n${items}</ul></nav>`;
}

/** The caller, with login or logout if possible. */
function describeWho(c: Context, isOn: boolean): Html | string {
  const rights = c.get('rights');
  if (!rights) return '';
  const described = describeCaller(rights.caller).replace(/^(?:an?|the) /, '');
  return isOn && rights.access.sessions ? sessionForm(c, described) : described;
}

interface Asset {
  readonly address: string;
  readonly type: string;
  readonly text: string;
}

/** The address changes with the text, so that browsers can cache it for ever. */
function createAsset(name: string, type: string, text: string): Asset {
  const version = createHash('sha256').update(text).digest('hex').slice(0, 12);
  return { address: `/console/assets/${version}/${name}`, type, text };
}

const ASSETS = {
  style: createAsset('style.css', 'text/css; charset=utf-8', STYLE),
  script: createAsset('script.js', 'text/javascript; charset=utf-8', SCRIPT),
  icon: createAsset('icon.svg', 'image/svg+xml', ICON),
};

/** Resources of pages, without authentication. */
export function createAssets(): Hono {
  const app = new Hono();
  for (const { address, type, text } of Object.values(ASSETS)) {
    const headers = { 'Content-Type': type, 'Cache-Control': 'public, max-age=31536000, immutable' };
    app.get(address, c => c.body(text, 200, headers));
  }
  return app;
}
