// The frame of every page for people: its head, the menu of what the caller may see, and the headers that keep a browser from doing anything else with
// it. All that is put into a page is escaped by `html`; `raw` has no place here.
import { createHash } from 'node:crypto';
import { type Context, Hono } from 'hono';
import { html } from 'hono/html';
import { describeCaller } from '../../access/access.ts';
import { callerOf, isAdmin } from '../middleware/authentication.ts';
import { SCRIPT } from './script.ts';
import { ICON, STYLE } from './style.ts';

export type Html = ReturnType<typeof html>;

export interface Page {
  readonly title: string;
  /** One sentence under the title. */
  readonly lead?: Html | string | undefined;
  readonly body: Html | readonly Html[];
  readonly status?: 200 | 400 | 401 | 403 | 404 | 429 | 500 | 503 | undefined;
}

/** Answers with a page, in the frame. */
export type ShowPage = (c: Context, page: Page) => Response | Promise<Response>;

interface MenuEntry {
  readonly path: string;
  readonly name: string;
  readonly isForAdmins?: boolean;
}

const MENU: readonly MenuEntry[] = [{ path: '/console', name: 'Overview' }];

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
<div class="who muted small">${describeWho(c)}</div>
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
  const isHere = ({ path }: MenuEntry) =>
    c.req.path === path || (path !== '/console' && c.req.path.startsWith(`${path}/`));
  const entries = MENU.filter(({ isForAdmins }) => !isForAdmins || (c.get('rights') && isAdmin(c)));
  const items = entries.map(
    entry => html`<li><a href="${entry.path}"${isHere(entry) && html` aria-current="page"`}>${entry.name}</a></li>\n`,
  );
  return html`<nav class="menu" aria-label="Console"><ul>\n${items}</ul></nav>`;
}

/** Nobody, where the page tells that somebody has to be known first. */
function describeWho(c: Context): string {
  return c.get('rights') ? describeCaller(callerOf(c)).replace(/^an? /, '') : '';
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
