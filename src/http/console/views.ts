// Pages under /view/, whose addresses clients print: the records of the API, field by field, with the same rights.
import { type Context, Hono } from 'hono';
import { html } from 'hono/html';
import { isDigest } from '../../oci/digest.ts';
import type { Origins } from '../../pull/origin.ts';
import type { Vulnerability } from '../../scans/record.ts';
import type { Scans } from '../../scans/scans.ts';
import type { Submission } from '../../submit/submit.ts';
import { findPublicHost, imageAddress } from '../wave/public-host.ts';
import { getScan, scanResponse } from '../wave/scans-api.ts';
import { recordResponse, statusOf } from '../wave/submit-response.ts';
import type { ShowPage } from './layout.ts';
import { chip, digestOf, facts, type Html, type Tone, table } from './parts.ts';

interface ViewsDeps {
  readonly findSubmission: (c: Context) => Promise<Submission>;
  readonly scans: Scans;
  readonly origins: Origins;
  readonly publicUrl: string | undefined;
  readonly show: ShowPage;
}

export function createViews(deps: ViewsDeps): Hono {
  const { findSubmission, scans, origins, publicUrl, show } = deps;
  const app = new Hono();

  const hostOf = (c: Context) => findPublicHost(publicUrl, c.req.header('Host'));
  const addressOf = (c: Context) => (image: string) => imageAddress(image, origins, hostOf(c));

  app.get('/view/containers/:id', async c => {
    const submission = await findSubmission(c);
    const view = { host: hostOf(c) ?? 'localhost', addressOf: addressOf(c) };
    // Anyone with the address can see the page: the fields omitted are for the requester only.
    const { workspaceId: _, fingerprint: __, zoneId: ___, ...record } = recordResponse(submission, view);
    return show(c, {
      title: `Container ${submission.record.id}`,
      body: [describe({ status: statusOf(submission), ...record })],
    });
  });
  app.get('/view/scans/:id', async c => {
    const { logs = '', vulnerabilities = [], ...record } = scanResponse(await getScan(c, scans));
    return show(c, {
      title: `Scan ${record.id}`,
      body: [
        describe(record),
        html`<h2>Vulnerabilities</h2>${describeVulnerabilities(vulnerabilities)}`,
        html`<h2>Log</h2><pre class="log" tabindex="0">${logs || 'none'}</pre>`,
      ],
    });
  });
  return app;
}

/** Links ids to their pages, and omits empty fields. */
function describe(record: Readonly<Record<string, unknown>>): Html {
  const described = Object.entries(record).map(([name, value]) => [name, describeValue(name, value)]);
  return html`<div class="card">${facts(Object.fromEntries(described))}</div>`;
}

const PAGES: Readonly<Record<string, string>> = { buildId: 'builds', mirrorId: 'mirrors', scanId: 'scans' };

function describeValue(name: string, value: unknown): Html | string {
  const kind = PAGES[name];
  if (kind !== undefined && typeof value === 'string') {
    const path = `/view/${value.startsWith('mr-') ? 'mirrors' : kind}/${value}`;
    return html`<a href="${path}">${value}</a>`;
  }
  if (typeof value === 'string' && isDigest(value)) return digestOf(value);
  if (typeof value === 'string') return value.includes('\n') ? html`<pre tabindex="0">${value}</pre>` : value;
  return typeof value === 'object'
    ? html`<pre tabindex="0">${JSON.stringify(value, undefined, 2)}</pre>`
    : String(value);
}

const TONES: Readonly<Record<string, Tone>> = { CRITICAL: 'bad', HIGH: 'bad', MEDIUM: 'warn' };

function describeVulnerabilities(items: readonly Vulnerability[]): Html {
  const rows = items.map(({ severity, id, pkgName, installedVersion, fixedVersion, title }) => [
    ...[chip(TONES[severity] ?? 'quiet', severity), id, pkgName, installedVersion, fixedVersion || 'none', title],
  ]);
  const columns = ['Severity', 'Name', 'Package', 'Installed', 'Fixed in', { name: 'Title', isText: true }];
  return table('Vulnerabilities', columns, rows);
}
