// Builds and copies: the list of those visible to the caller, and a page for each, with its progress by platform and its live log.

import { type Context, Hono } from 'hono';
import { html } from 'hono/html';
import type { Logger } from 'pino';
import type { Builds } from '../../builds/builds.ts';
import { createLogTail, formatLogEntry, type LogEntry } from '../../builds/progress.ts';
import type { BuildRecord } from '../../builds/record.ts';
import type { Spec } from '../../builds/spec.ts';
import type { Digest } from '../../oci/digest.ts';
import type { Origins } from '../../pull/origin.ts';
import type { Scans } from '../../scans/scans.ts';
import type { RateLimitedBuilds } from '../../submit/rate-limited-builds.ts';
import { hasRight, isAdmin, requesterOf, requireRight } from '../middleware/authentication.ts';
import { noteAction } from '../middleware/request-log.ts';
import { createSendLog } from '../wave/build-log.ts';
import { describeFailure, durationSeconds, hasEnded, isMirror } from '../wave/build-response.ts';
import { type GetBuild, listVisible } from '../wave/builds-api.ts';
import type { BodyLimits } from '../wave/json-body.ts';
import { findPublicHost, imageAddress } from '../wave/public-host.ts';
import { confirmed, postForm, withForm } from './forms.ts';
import type { ShowPage } from './layout.ts';
import { chip, copyable, digestOf, facts, type Html, live, note, type Tone, table, timeOf } from './parts.ts';

interface BuildPagesDeps {
  readonly builds: Builds;
  readonly getBuild: GetBuild;
  readonly limitedBuilds: Pick<RateLimitedBuilds, 'retry'>;
  readonly scans: Pick<Scans, 'findOfBuild'>;
  readonly origins: Origins;
  readonly publicUrl: string | undefined;
  readonly body: BodyLimits;
  readonly show: ShowPage;
  readonly log: Logger;
  readonly now: () => Date;
}

/** In characters. */
const MAX_LOG = 64 * 1024;
const EVERY_SECONDS = 2;
const LIST_EVERY_SECONDS = 4;
const PATHS = { bd: '/view/builds', mr: '/view/mirrors' } as const;

/** The pages of individual builds, whose addresses clients print. */
export function createBuildPages(deps: BuildPagesDeps): Hono {
  const { builds, getBuild, limitedBuilds, body, show } = deps;
  const app = new Hono();
  const sendLog = createSendLog(deps);
  for (const [prefix, path] of Object.entries(PATHS)) {
    const change = (c: Context) => getBuild(c, prefix, ['pull', 'build']);
    app.get(`${path}/:id`, async (c: Context) => {
      const build = await getBuild(c, prefix, ['pull']);
      return show(c, {
        title: `${isMirror(build.id) ? 'Mirror' : 'Build'} ${build.id}`,
        body: await describeBuild(c, build, deps),
      });
    });
    // The log as text, as it grows.
    app.get(`${path}/:id/log`, async (c: Context) => sendLog(c, await getBuild(c, prefix, ['pull']), () => ({})));
    app.post(`${path}/:id/cancel`, (c: Context) =>
      withForm(c, body, async () => {
        const { id } = await change(c);
        noteAction(c, 'build.cancel', { target: id });
        await builds.cancel(id);
        return c.redirect(buildPath(id), 303);
      }),
    );
    app.post(`${path}/:id/retry`, (c: Context) =>
      withForm(c, body, async () => {
        const build = await change(c);
        noteAction(c, 'build.retry', { target: build.id });
        requireRight(c, 'build', build.spec.target.repository);
        return c.redirect(buildPath((await limitedBuilds.retry(requesterOf(c), build)).id), 303);
      }),
    );
  }
  return app;
}

/** The list, at /console/builds. */
export function createBuildList({ builds, show, now }: Pick<BuildPagesDeps, 'builds' | 'show' | 'now'>): Hono {
  const app = new Hono();
  app.get('/console/builds', async (c: Context) => {
    const found = await listVisible(c, builds);
    const at = now();
    const rows = found.map(build => [
      html`<a class="digest" href="${buildPath(build.id)}">${build.id}</a>`,
      statusChip(build),
      build.image,
      (build.spec.platforms ?? []).join(', ') || 'all',
      ...(isAdmin(c) ? [build.caller || html`<span class="muted">no name</span>`] : []),
      timeOf(build.createdAt, at),
      tookOf(build, at),
    ]);
    const columns = [
      ...['Build', 'State', { name: 'Image', isText: true }, 'Platforms', ...(isAdmin(c) ? ['Caller'] : [])],
      ...['Asked for', { name: 'Took', isNumber: true }],
    ];
    const last = found.at(-1);
    const older = last && html`<p><a href="/console/builds?${olderQuery(c, last.id)}">Older</a></p>`;
    const list = live('builds', LIST_EVERY_SECONDS, [table('Builds', columns, rows, 'None visible to you.')]);
    return show(c, {
      title: 'Builds',
      lead: 'Newest first, including copies.',
      body: [filters(c), list, older ?? html``],
    });
  });
  return app;
}

const STATUSES = ['queued', 'running', 'succeeded', 'failed'] as const;

function filters(c: Context): Html {
  const chosen = c.req.query('status');
  const link = (status: string | undefined, text: string) =>
    html`<a class="button plain little" href="/console/builds${status ? `?status=${status}` : ''}"${status === chosen && html` aria-current="true"`}>${text}</a> `;
  return html`<div class="actions">${link(undefined, 'all')}${STATUSES.map(status => link(status, status))}</div>`;
}

function olderQuery(c: Context, after: string): string {
  const status = c.req.query('status');
  return new URLSearchParams({ ...(status && { status }), after }).toString();
}

function buildPath(id: string): string {
  return `${isMirror(id) ? PATHS.mr : PATHS.bd}/${id}`;
}

const TONES: Readonly<Record<BuildRecord['status'], Tone>> = {
  queued: 'quiet',
  running: 'info',
  succeeded: 'ok',
  failed: 'bad',
};

function statusChip({ status, failure }: BuildRecord): Html {
  return chip(
    failure?.kind === 'cancelled' ? 'quiet' : TONES[status],
    failure?.kind === 'cancelled' ? 'cancelled' : status,
  );
}

function tookOf({ startedAt, endedAt }: BuildRecord, now: Date): string {
  if (startedAt === undefined) return '–';
  return `${durationSeconds(startedAt, endedAt ?? now.toISOString()).toFixed(1)} s`;
}

async function describeBuild(c: Context, build: BuildRecord, deps: BuildPagesDeps): Promise<Html> {
  const { builds, scans, origins, publicUrl, now } = deps;
  const isOver = hasEnded(build);
  const entries = await builds.openLog(build.id, { follow: false, signal: c.req.raw.signal });
  const { log, platforms } = await readProgress(entries);
  const address = imageAddress(build.image, origins, findPublicHost(publicUrl, c.req.header('Host')));
  const scanId = await scans.findOfBuild(build.id);
  const head = [
    html`<div class="actions">${statusChip(build)}${actions(c, build)}</div>`,
    build.failure ? note('bad', describeFailure(build)) : html``,
    html`<div class="card">${facts(describeRecord(build, { address, scanId, now: now() }))}</div>`,
    html`<h2>Progress</h2>${describeProgress(platforms, isOver)}`,
  ];
  const path = `${buildPath(build.id)}/log`;
  return html`${live('build', isOver ? undefined : EVERY_SECONDS, head)}
${isOver && build.digest && html`<h2>Pull</h2>${copyable('the pull command', pullCommand(build.spec, address, build.digest))}`}
${describeSource(build)}
<h2>Log</h2>
<p><a href="${path}?follow=false">The whole log, as text</a></p>
<pre class="log" id="log" tabindex="0" aria-label="Log"${!isOver && html` data-follow="${path}"`}>${log || 'Nothing yet.'}</pre>`;
}

function pullCommand({ format }: Spec, address: string, digest: Digest): string {
  return format === 'sif' ? `apptainer pull oras://${address}` : `docker pull ${withDigest(address, digest)}`;
}

interface RecordView {
  readonly address: string;
  readonly scanId: string | undefined;
  readonly now: Date;
}

function describeRecord(build: BuildRecord, { address, scanId, now }: RecordView) {
  const { spec, createdAt, startedAt, starts, backends, digest } = build;
  const source = spec.kind === 'copy' ? `${spec.source.registry}/${spec.source.repository}` : undefined;
  return {
    Image: html`<code>${address}</code>`,
    Digest: digest && digestOf(digest),
    Source: source && html`<code>${source}</code> ${spec.kind === 'copy' && digestOf(spec.source.digest)}`,
    Platforms: spec.platforms?.join(', ') ?? 'all platforms of its source',
    'Asked for': timeOf(createdAt, now),
    Started: startedAt && html`${timeOf(startedAt, now)}${starts > 1 && ` (for the ${starts}th time)`}`,
    Took: tookOf(build, now),
    Builders: backends.join(', '),
    Scan: scanId && html`<a href="/view/scans/${scanId}">${scanId}</a>`,
  };
}

function withDigest(address: string, digest: string): string {
  return `${address.slice(0, address.lastIndexOf(':'))}@${digest}`;
}

/** Only those that the caller may use. */
function actions(c: Context, build: BuildRecord): Html {
  const mayBuild = hasRight(c, 'build', build.spec.target.repository);
  const path = buildPath(build.id);
  if (!hasEnded(build)) {
    if (!mayBuild && !isAdmin(c)) return html``;
    return confirmed(c, `${path}/cancel`, { what: 'Cancel', sure: 'Cancel this build' });
  }
  if (build.status !== 'failed' || !mayBuild) return html``;
  return postForm(c, `${path}/retry`, html`<button class="plain little">Try again</button>`);
}

function describeSource({ spec, packages }: BuildRecord): Html {
  const file = spec.kind === 'containerfile' ? spec.containerFile : undefined;
  const part = (name: string, text: string) =>
    html`<details class="more"><summary>${name}</summary><pre tabindex="0">${text}</pre></details>`;
  return html`${file !== undefined && part('Containerfile', file)}
${packages?.environment !== undefined && part('Environment of conda', packages.environment)}`;
}

interface PlatformProgress {
  readonly states: Map<string, NonNullable<LogEntry['state']>>;
  /** The most recently reported step. */
  current: string | undefined;
}

/** One pass over the log: its end, and the state of each platform's steps. */
async function readProgress(entries: AsyncIterable<LogEntry> | undefined) {
  const tail = createLogTail(MAX_LOG);
  const platforms = new Map<string, PlatformProgress>();
  for await (const entry of entries ?? []) {
    tail.add(formatLogEntry(entry));
    if (entry.kind !== 'step' || entry.step === undefined || entry.state === undefined) continue;
    const name = entry.platform ?? 'all platforms';
    const progress = platforms.get(name) ?? { states: new Map(), current: undefined };
    progress.states.set(entry.step, entry.state);
    progress.current = entry.step;
    platforms.set(name, progress);
  }
  return { log: tail.text, platforms };
}

function describeProgress(platforms: ReadonlyMap<string, PlatformProgress>, isOver: boolean): Html {
  const rows = [...platforms].map(([name, { states, current }]) => {
    const count = (...wanted: readonly string[]) => [...states.values()].filter(state => wanted.includes(state)).length;
    const failed = count('failed') > 0;
    const started = count('started');
    const state = failed
      ? chip('bad', 'failed')
      : started > 0 && !isOver
        ? chip('info', 'under way')
        : chip('ok', 'done');
    return [name, state, String(count('done')), String(count('cached')), current ?? ''];
  });
  const columns = [
    ...['Platform', 'State', { name: 'Steps done', isNumber: true }, { name: 'From the cache', isNumber: true }],
    { name: 'Last step', isText: true },
  ];
  return table('Progress by platform', columns, rows, isOver ? 'The log has no steps.' : 'No step has started yet.');
}
