// The frame of every page for people: its head, the menu of what the caller may see, and the headers that keep a browser from doing anything else with
// it. All that is put into a page is escaped by `html`; `raw` has no place here.
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

/** Answers with a page, in the frame. */
export type ShowPage = (c: Context, page: Page) => Response | Promise<Response>;

/**
 * Errors of pages are pages; whoever is not known is asked to log in, where that can be done. Goes where errors become HTTP: undefined for a client
 * that is no browser, and for all that is no page.
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

/** Asks for the same page once more: a browser that comes by a link of another page does not show its session, which is for pages of ours alone. */
export function showAgain(c: Context): Response | Promise<Response> {
  for (const [name, value] of Object.entries(HEADERS)) c.header(name, value);
  const { pathname, search } = new URL(c.req.url);
  const head = html`<meta charset="utf-8"><title>Veneer</title><meta http-equiv="refresh" content="0">`;
  return c.html(
    html`<!doctype html><html lang="en"><head>${head}</head><body><a href="${pathname}${search}">Go on</a></body></html>`,
  );
}

/** Clients of registries and of the API ask for JSON, or for anything. */
export function wantsPage(c: Context): boolean {
  return /\btext\/html\b/.test(c.req.header('Accept') ?? '');
}

interface MenuEntry {
  readonly path: string;
  readonly name: string;
  readonly isForAdmins?: boolean;
  /** Paths of the same menu entry elsewhere. */
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

/** Nothing runs or is loaded but what the service itself has beside the page, no page frames it, and what it sends goes to the service. */
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
  // Without a referrer at all, browsers say of a form that it comes from nowhere.
  'Referrer-Policy': 'same-origin',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'X-Frame-Options': 'DENY',
} as const;

/** `isOn`: whether there is a console around the pages; without one they have no menu. */
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

/** And the way in or out, where there is one. */
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

/** The address changes with the text, so that a browser keeps it for good. */
function createAsset(name: string, type: string, text: string): Asset {
  const version = createHash('sha256').update(text).digest('hex').slice(0, 12);
  return { address: `/console/assets/${version}/${name}`, type, text };
}

const ASSETS = {
  style: createAsset('style.css', 'text/css; charset=utf-8', STYLE),
  script: createAsset('script.js', 'text/javascript; charset=utf-8', SCRIPT),
  icon: createAsset('icon.svg', 'image/svg+xml', ICON),
};

/** What pages load. Anybody may. */
export function createAssets(): Hono {
  const app = new Hono();
  for (const { address, type, text } of Object.values(ASSETS)) {
    const headers = { 'Content-Type': type, 'Cache-Control': 'public, max-age=31536000, immutable' };
    app.get(address, c => c.body(text, 200, headers));
  }
  return app;
}
