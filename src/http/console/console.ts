// The console: pages for people, under /console. Rights are those of the same questions to the API, and what is not for a caller is not shown.
import { type Context, Hono } from 'hono';
import type { ShowPage } from './layout.ts';
import { createOverview } from './overview.ts';

type OverviewDeps = Parameters<typeof createOverview>[0];

interface ConsoleDeps extends OverviewDeps {
  readonly show: ShowPage;
}

export function createConsole({ show, ...deps }: ConsoleDeps): Hono {
  const app = new Hono();
  const overview = createOverview(deps);
  app.get('/console', async c => show(c, await overview(c)));
  // Browsers alone ask for a page.
  app.get('/', async (c, next) => (wantsPage(c) ? c.redirect('/console') : next()));
  return app;
}

/** Clients of registries and of the API ask for JSON, or for anything. */
function wantsPage(c: Context): boolean {
  return /\btext\/html\b/.test(c.req.header('Accept') ?? '');
}
