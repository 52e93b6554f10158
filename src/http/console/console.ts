// The console: pages for people, under /console. Rights are those of the same questions to the API, and what is not for a caller is not shown.
import { Hono } from 'hono';
import type { Access } from '../../access/access.ts';
import type { Builds } from '../../builds/builds.ts';
import type { BodyLimits } from '../wave/json-body.ts';
import { createBuildList } from './builds.ts';
import { type ShowPage, wantsPage } from './layout.ts';
import { createLogin } from './login.ts';
import { createOverview } from './overview.ts';

type OverviewDeps = Parameters<typeof createOverview>[0];

interface ConsoleDeps extends OverviewDeps {
  readonly show: ShowPage;
  /** Undefined where nobody can log in. */
  readonly sessions: Access['sessions'];
  readonly body: BodyLimits;
  readonly builds: Builds;
}

export function createConsole({ show, sessions, body, ...deps }: ConsoleDeps): Hono {
  const app = new Hono();
  if (sessions) app.route('/', createLogin({ sessions, show, body }));
  const overview = createOverview(deps);
  app.route('/', createBuildList({ ...deps, show }));
  app.get('/console', async c => show(c, await overview(c)));
  // Of all others it is no route.
  app.use('/', async (c, next) => (c.req.method === 'GET' && wantsPage(c) ? c.redirect('/console') : next()));
  return app;
}
