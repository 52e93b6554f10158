// Storage: the cache with its largest repositories, for administrators, and hosted repositories with their tags, for callers who may pull
// them.
import { type Context, Hono } from 'hono';
import { html } from 'hono/html';
import type { CacheAdmin } from '../../cache/admin/cache-admin.ts';
import type { RepositoryLine, StatLine } from '../../cache/admin/lines.ts';
import type { HostedRepositories } from '../../hosted/repositories.ts';
import { hasRight, isAdmin, requireCaller } from '../middleware/authentication.ts';
import type { ShowPage } from './layout.ts';
import { countOf, facts, type Html, sizeOf, table, timeOf } from './parts.ts';

interface StoragePagesDeps {
  readonly cacheAdmin: Pick<CacheAdmin, 'stat' | 'list'>;
  readonly hosted: Pick<HostedRepositories, 'listNames' | 'tags'>;
  readonly show: ShowPage;
  readonly now: () => Date;
}

const MAX_REPOSITORIES = 20;
const MAX_NAMES = 100;
const MAX_TAGS = 20;

export function createStoragePages({ cacheAdmin, hosted, show, now }: StoragePagesDeps): Hono {
  const app = new Hono();
  app.get('/console/storage', async (c: Context) => {
    requireCaller(c);
    const cache = isAdmin(c) && (await describeCache(cacheAdmin, now()));
    return show(c, { title: 'Storage', body: html`${cache}${await describeHosted(c, hosted)}` });
  });
  return app;
}

async function describeCache(cacheAdmin: StoragePagesDeps['cacheAdmin'], now: Date): Promise<Html> {
  let stat: StatLine | undefined;
  for await (const line of cacheAdmin.stat()) if (line.kind === 'stat') stat = line;
  const rows = (await findLargest(cacheAdmin)).map(({ repository, manifests, blobs, bytes, usedAt }) => [
    repository,
    ...[countOf(manifests), countOf(blobs), sizeOf(bytes), usedAt ? timeOf(usedAt, now) : 'never'],
  ]);
  const columns = [
    ...[
      { name: 'Repository', isText: true },
      { name: 'Manifests', isNumber: true },
      { name: 'Blobs', isNumber: true },
    ],
    ...[{ name: 'Size', isNumber: true }, 'Last used'],
  ];
  return html`<h2>Cache</h2><div class="card">${stat && describeStat(stat)}</div>
<h3>Largest repositories</h3>${table('Largest repositories', columns, rows, 'Nothing is cached yet.')}
<p class="muted small">Content shared by two repositories counts for both. <code>veneer cache ls</code> lists all repositories.</p>`;
}

function describeStat({ bytes, count, highBytes, pin }: StatLine): Html {
  const budget =
    highBytes === undefined
      ? 'no limit'
      : html`${sizeOf(highBytes)}<meter min="0" max="${highBytes}" value="${bytes}" aria-label="Part of the budget in use">${bytes}</meter>`;
  return facts({
    ...{ Size: sizeOf(bytes), Budget: budget, Content: `${countOf(count)} blobs and manifests` },
    ...(pin.length > 0 && { Pinned: html`<code>${pin.join(', ')}</code>` }),
  });
}

/** Holds only the largest in memory, however many there are. */
async function findLargest(cacheAdmin: Pick<CacheAdmin, 'list'>): Promise<readonly RepositoryLine[]> {
  let largest: RepositoryLine[] = [];
  for await (const line of cacheAdmin.list()) {
    if (line.kind !== 'repository') continue;
    largest = [...largest, line].sort((one, other) => other.bytes - one.bytes).slice(0, MAX_REPOSITORIES);
  }
  return largest;
}

async function describeHosted(c: Context, { listNames, tags }: StoragePagesDeps['hosted']): Promise<Html> {
  const last = c.req.query('last');
  const { names, hasMore } = await listNames({ n: MAX_NAMES, last, isWanted: name => hasRight(c, 'pull', name) });
  const rows = await Promise.all(
    names.map(async name => {
      const listed = await tags.list(name, { n: MAX_TAGS }).catch(() => ({ tags: [], hasMore: false }));
      const shown = listed.tags.map(tag => html`<code>${tag}</code> `);
      return [html`<strong>${name}</strong>`, html`${shown}${listed.hasMore && '…'}`];
    }),
  );
  const columns = [
    { name: 'Repository', isText: true },
    { name: 'Tags', isText: true },
  ];
  const next =
    hasMore &&
    html`<p><a href="/console/storage?${new URLSearchParams({ last: names.at(-1) ?? '' }).toString()}">More</a></p>`;
  return html`<h2>Hosted repositories</h2>${table('Hosted repositories', columns, rows, 'None that you may pull from.')}${next}`;
}
