// Pages for people of what the API tells programs: plain HTML that needs no script and loads nothing. Rights are those of the JSON.
import { createHash } from 'node:crypto';
import { type Context, Hono } from 'hono';
import { html, raw } from 'hono/html';
import type { Builds } from '../../builds/builds.ts';
import { readLogEnd } from '../../builds/progress.ts';
import type { Inspect } from '../../pull/images.ts';
import type { Origins } from '../../pull/origin.ts';
import type { Scans } from '../../scans/scans.ts';
import type { RequireSources } from '../../submit/source-rights.ts';
import type { Submission } from '../../submit/submit.ts';
import { buildLogPath, buildResponse } from './build-response.ts';
import type { GetBuild } from './builds-api.ts';
import { answerInspection } from './inspect.ts';
import { findPublicHost, imageAddress } from './public-host.ts';
import { getScan, scanResponse } from './scans-api.ts';
import { recordResponse, statusOf } from './submit-response.ts';

interface ViewsDeps {
  readonly builds: Pick<Builds, 'openLog'>;
  readonly getBuild: GetBuild;
  readonly findSubmission: (c: Context) => Promise<Submission>;
  readonly scans: Scans;
  readonly inspect: Inspect;
  readonly requireSources: RequireSources;
  readonly origins: Origins;
  readonly publicUrl: string | undefined;
}

/** In characters. */
const MAX_LOG = 64 * 1024;

export function createViews(deps: ViewsDeps): Hono {
  const { builds, getBuild, findSubmission, scans, inspect, requireSources, origins, publicUrl } = deps;
  const app = new Hono();

  const hostOf = (c: Context) => findPublicHost(publicUrl, c.req.header('Host'));
  const addressOf = (c: Context) => (image: string) => imageAddress(image, origins, hostOf(c));

  async function showBuild(c: Context, kind: 'bd' | 'mr'): Promise<Response> {
    const build = await getBuild(c, kind, ['pull']);
    const scanId = await scans.findOfBuild(build.id);
    const { failure: _, platforms: __, ...record } = buildResponse(build, addressOf(c)(build.image), { scanId });
    const entries = await builds.openLog(build.id, { follow: false, signal: c.req.raw.signal });
    const log = await readLogEnd(entries, MAX_LOG);
    return page(c, `${kind === 'bd' ? 'Build' : 'Mirror'} ${build.id}`, [
      fields(record),
      html`<h2>Log</h2><p><a href="${buildLogPath(build.id)}">whole, as text</a></p><pre>${log ?? 'none yet'}</pre>`,
    ]);
  }

  app.get('/view/containers/:id', async c => {
    const submission = await findSubmission(c);
    const view = { host: hostOf(c) ?? 'localhost', addressOf: addressOf(c) };
    // Whoever has the address may pull with it: the rest of the request is for its owner only.
    const { workspaceId: _, fingerprint: __, zoneId: ___, ...record } = recordResponse(submission, view);
    return page(c, `Container ${submission.record.id}`, [fields({ status: statusOf(submission), ...record })]);
  });
  app.get('/view/builds/:id', c => showBuild(c, 'bd'));
  app.get('/view/mirrors/:id', c => showBuild(c, 'mr'));
  app.get('/view/scans/:id', async c => {
    const { logs = '', vulnerabilities = [], ...record } = scanResponse(await getScan(c, scans));
    return page(c, `Scan ${record.id}`, [
      fields(record),
      html`<h2>Vulnerabilities</h2>${vulnerabilities.length === 0 ? html`<p>none</p>` : table(vulnerabilities)}`,
      html`<h2>Log</h2><pre>${logs || 'none'}</pre>`,
    ]);
  });
  app.get('/view/inspect', async c => {
    const { image = '', platform } = c.req.query();
    const found = await answerInspection(c, { containerImage: image, platform }, { inspect, requireSources });
    return page(c, `Image ${image}`, [html`<pre>${JSON.stringify(found, undefined, 2)}</pre>`]);
  });
  return app;
}

type Html = ReturnType<typeof html>;

const STYLE = `body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem}
table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #ccc;padding:.3rem .6rem;text-align:left;vertical-align:top}
th{white-space:nowrap}td{overflow-wrap:anywhere}pre{background:#f4f4f4;overflow:auto;padding:1rem;white-space:pre-wrap}`;

const POLICY = [
  "default-src 'none'",
  `style-src 'sha256-${createHash('sha256').update(STYLE).digest('base64')}'`,
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

async function page(c: Context, title: string, parts: readonly Html[]): Promise<Response> {
  c.header('Content-Security-Policy', POLICY);
  c.header('Cache-Control', 'no-store');
  c.header('Referrer-Policy', 'no-referrer');
  return c.html(html`<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>${title} - Veneer</title><meta name="viewport" content="width=device-width"><style>${raw(STYLE)}</style></head>
<body>
<h1>${title}</h1>
${parts}
</body>
</html>`);
}

/** Ids link to their pages; empty fields are omitted. */
function fields(record: Readonly<Record<string, unknown>>): Html {
  const rows = Object.entries(record).map(
    ([name, value]) => html`<tr><th>${name}</th><td>${cell(name, value)}</td></tr>\n`,
  );
  return html`<table>${rows}</table>`;
}

const PAGES: Readonly<Record<string, string>> = { buildId: 'builds', mirrorId: 'mirrors', scanId: 'scans' };

function cell(name: string, value: unknown): Html | string {
  const kind = PAGES[name];
  if (kind !== undefined && typeof value === 'string') {
    const path = `/view/${value.startsWith('mr-') ? 'mirrors' : kind}/${value}`;
    return html`<a href="${path}">${value}</a>`;
  }
  if (typeof value === 'string') return value.includes('\n') ? html`<pre>${value}</pre>` : value;
  return typeof value === 'object' ? html`<pre>${JSON.stringify(value, undefined, 2)}</pre>` : String(value);
}

function table(items: readonly Readonly<Record<string, unknown>>[]): Html {
  const names = ['severity', 'id', 'pkgName', 'installedVersion', 'fixedVersion', 'title'];
  const rows = items.map(item => html`<tr>${names.map(name => html`<td>${String(item[name] ?? '')}</td>`)}</tr>\n`);
  return html`<table><tr>${names.map(name => html`<th>${name}</th>`)}</tr>${rows}</table>`;
}
