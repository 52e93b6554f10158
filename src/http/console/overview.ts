// The overview: version and uptime, the health of all parts with the responsible party for each problem, and current activity.
import type { Context } from 'hono';
import { html } from 'hono/html';
import type { Builds } from '../../builds/builds.ts';
import type { Capabilities } from '../../builds/executor/platforms.ts';
import type { CacheAdmin } from '../../cache/admin/cache-admin.ts';
import type { StatLine } from '../../cache/admin/lines.ts';
import type { Activity, UpstreamActivity } from '../../observe/activity.ts';
import { formatSize } from '../../oci/wording.ts';
import { type CheckCondition, describeBuilder, type ReadinessProblem } from '../admin/health.ts';
import { isAdmin } from '../middleware/authentication.ts';
import type { Page } from './layout.ts';
import { chip, countOf, facts, type Html, live, note, type Tone, table, timeOf } from './parts.ts';

/** Facts about the service from its configuration and start. */
interface Service {
  readonly version: string;
  readonly commit: string;
  readonly startedAt: Date;
  /** Undefined if there is none. */
  readonly configFile: string | undefined;
  readonly dataDir: string;
  readonly upstreams: readonly ConfiguredUpstream[];
  /** Whether public registries without an entry may be pulled from. */
  readonly openUpstreams: boolean;
  readonly offline: boolean;
}

interface ConfiguredUpstream {
  readonly name: string;
  readonly hasCredentials: boolean;
  readonly mirrors: number;
  readonly isOffline: boolean;
  readonly isStrict: boolean;
}

interface OverviewDeps {
  readonly service: Service;
  readonly check: CheckCondition;
  readonly activity: Activity;
  readonly builds: Pick<Builds, 'list'>;
  readonly cacheAdmin: Pick<CacheAdmin, 'stat'>;
  readonly listBuilders: () => Promise<readonly Capabilities[]>;
  readonly now: () => Date;
}

const EVERY_SECONDS = 5;

export function createOverview(deps: OverviewDeps): (c: Context) => Promise<Page> {
  return async c => {
    const now = deps.now();
    const admin = isAdmin(c);
    const parts = [
      await describeCondition(deps),
      admin && (await describeWork(deps)),
      html`<h2>What runs</h2><div class="card">${describeService(deps.service, { now, isAdmin: admin })}</div>`,
      admin && html`<h2>Upstreams</h2>${describeUpstreams(deps, now)}`,
      html`<h2>Builders</h2>${describeBuilders(await deps.listBuilders())}`,
    ];
    const lead = admin ? undefined : 'Public information. Administrators of this Veneer see more.';
    return { title: 'Overview', lead, body: live('overview', EVERY_SECONDS, parts.filter(isShown)) };
  };
}

function isShown(part: Html | false): part is Html {
  return part !== false;
}

const FAULTS: Readonly<Record<ReadinessProblem['fault'], string>> = {
  operator: 'the operator of this Veneer',
  upstream: 'the registry’s',
  builder: 'the builder’s',
  nobody: 'nobody: this is expected',
};

async function describeCondition({ check }: OverviewDeps): Promise<Html> {
  const { parts, notes } = await check();
  const isDown = parts.some(({ status }) => status === 'DOWN');
  const notices = notes.length > 0 && note('info', html`<ul>${notes.map(each => html`<li>${each}</li>`)}</ul>`);
  if (parts.length === 0) return html`${note('ok', 'All parts work.')}${notices}`;
  const rows = parts.map(({ part, status, fault, reason }) => [
    html`<strong>${part}</strong>`,
    chip(status === 'DOWN' ? 'bad' : 'warn', status === 'DOWN' ? 'down' : 'degraded'),
    reason,
    FAULTS[fault],
  ]);
  const summary = isDown ? 'Not ready: requests are not served.' : 'Requests are served, but some parts do not work.';
  return html`${note(isDown ? 'bad' : 'warn', summary)}
${table('Parts that do not work', ['Part', 'State', { name: 'Reason', isText: true }, 'Responsible'], rows)}${notices}`;
}

async function describeWork({ activity, builds, cacheAdmin }: OverviewDeps): Promise<Html> {
  const [running, queued] = await Promise.all([countBuilds(builds, 'running'), countBuilds(builds, 'queued')]);
  return html`<dl class="tiles">
${tile('Pulls by tag', countOf(activity.pulls), `and ${countOf(activity.pullsByDigest)} manifests by digest`)}
${describeHits(activity)}
${describeCache(await findStat(cacheAdmin))}
${tile('Builds under way', running, `${queued} more wait`)}
</dl>`;
}

function tile(name: string, figure: string, more: Html | string): Html {
  return html`<div class="tile"><dt>${name}</dt><dd><div class="figure">${figure}</div><div class="muted small">${more}</div></dd></div>`;
}

function describeHits({ found: { hit, revalidated, stale, coalesced, miss } }: Activity): Html {
  const served = hit + revalidated + stale + coalesced;
  const all = served + miss;
  const rate = all === 0 ? '–' : `${Math.floor((served / all) * 1000) / 10} %`;
  return tile('Served from the cache', rate, `${countOf(served)} of ${countOf(all)} requests for upstream content`);
}

async function findStat(cacheAdmin: Pick<CacheAdmin, 'stat'>): Promise<StatLine | undefined> {
  for await (const line of cacheAdmin.stat()) if (line.kind === 'stat') return line;
  return undefined;
}

function describeCache(stat: StatLine | undefined): Html {
  if (!stat) return tile('Cache', '–', '');
  const { bytes, count, highBytes, isCounted } = stat;
  const counted = `${countOf(count)} blobs and manifests${isCounted ? '' : ', still counting'}`;
  if (highBytes === undefined) return tile('Cache', formatSize(bytes), `${counted}; no limit`);
  const meter = html`<meter min="0" max="${highBytes}" value="${bytes}" high="${highBytes * 0.95}">${bytes} bytes</meter>`;
  return tile('Cache', formatSize(bytes), html`${meter}of ${formatSize(highBytes)}; ${counted}`);
}

const MOST_COUNTED = 100;

async function countBuilds(builds: Pick<Builds, 'list'>, status: 'running' | 'queued'): Promise<string> {
  const { length } = await builds.list({ limit: MOST_COUNTED, status });
  return length === MOST_COUNTED ? `${MOST_COUNTED} or more` : String(length);
}

function describeService(service: Service, { now, isAdmin: admin }: { now: Date; isAdmin: boolean }): Html {
  const { version, commit, startedAt, configFile, dataDir } = service;
  const file = configFile === undefined ? 'none: all keys have their defaults' : html`<code>${configFile}</code>`;
  return facts({
    Version: version,
    Commit: html`<code>${commit}</code>`,
    Started: timeOf(startedAt, now),
    ...(admin && { Configuration: file, Data: html`<code>${dataDir}</code>` }),
  });
}

function describeUpstreams({ service, activity }: OverviewDeps, now: Date): Html {
  const configured = new Map(service.upstreams.map(entry => [entry.name, entry]));
  const names = [...new Set([...configured.keys(), ...activity.upstreams.keys()])];
  const rows = names.map(name => {
    const entry = configured.get(name);
    const seen = activity.upstreams.get(name);
    const traits = entry ? describeTraits(entry) : 'public, not configured';
    return [
      html`<strong>${name}</strong>${traits && html` <span class="traits muted small">${traits}</span>`}`,
      chip(...stateOf(seen, service.offline || entry?.isOffline === true)),
      countOf(seen?.requests ?? 0),
      countOf(seen?.failures ?? 0),
      seen?.rateRemaining === undefined ? html`<span class="muted">unknown</span>` : countOf(seen.rateRemaining),
      seen?.askedAt ? timeOf(seen.askedAt, now) : html`<span class="muted">never</span>`,
      seen?.lastError
        ? html`${seen.lastError.reason} <span class="muted">${timeOf(seen.lastError.at, now)}</span>`
        : html`<span class="muted">none</span>`,
    ];
  });
  const others = service.openUpstreams
    ? 'Any other public registry can be pulled from.'
    : 'No other registry can be pulled from.';
  const columns = [
    ...['Upstream', 'State', { name: 'Requests', isNumber: true }, { name: 'Failed', isNumber: true }],
    ...[{ name: 'Limit left', isNumber: true }, 'Last asked', { name: 'Last error', isText: true }],
  ];
  return html`${table('Upstreams', columns, rows)}
<p class="muted small">${service.offline ? 'None is contacted: Veneer is offline.' : others} Counted since the start.</p>`;
}

function describeTraits({ hasCredentials, mirrors, isStrict }: ConfiguredUpstream): string {
  const traits = [
    hasCredentials && 'with credentials',
    mirrors > 0 && `${mirrors} ${mirrors === 1 ? 'mirror' : 'mirrors'}`,
    isStrict && 'strict',
  ];
  return traits.filter(Boolean).join(', ');
}

function stateOf(seen: UpstreamActivity | undefined, isOffline: boolean): [Tone, string] {
  if (isOffline) return ['quiet', 'offline'];
  if (seen?.isBroken) return ['bad', 'paused after failures'];
  if (seen?.isFailing) return ['warn', 'fails'];
  if (seen?.rateRemaining === 0) return ['warn', 'rate limit used up'];
  return seen?.askedAt ? ['ok', 'answers'] : ['quiet', 'not contacted yet'];
}

function describeBuilders(builders: readonly Capabilities[]): Html {
  const rows = builders
    .map(describeBuilder)
    .map(({ name, kind, isAvailable, platforms, notes = [] }) => [
      html`<strong>${name}</strong>`,
      kind,
      isAvailable ? chip('ok', 'answers') : chip('bad', 'does not answer'),
      platforms.join(', ') || '–',
      notes.join(' ') || html`<span class="muted">none</span>`,
    ]);
  const columns = ['Builder', 'Kind', 'State', { name: 'Platforms', isText: true }, { name: 'Notes', isText: true }];
  return table('Builders', columns, rows, 'None: only existing images can be pulled and augmented.');
}
