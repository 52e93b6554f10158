// The console: web pages under /console. They require the same rights as the corresponding requests to the API, and omit what the caller
// may not see.
import { Hono } from 'hono';
import type { Access } from '../../access/access.ts';
import { createBuildList } from './builds.ts';
import { wantsPage } from './layout.ts';
import { createLogin } from './login.ts';
import { createMakePages } from './make.ts';
import { createMirrorPages } from './mirrors.ts';
import { createOverview } from './overview.ts';
import { createRulePages } from './rules.ts';
import { createStoragePages } from './storage.ts';
import { createTokenPages } from './tokens.ts';

type ConsoleDeps = Parameters<typeof createOverview>[0] &
  Parameters<typeof createBuildList>[0] &
  Parameters<typeof createStoragePages>[0] &
  Parameters<typeof createTokenPages>[0] &
  Parameters<typeof createMakePages>[0] &
  Parameters<typeof createMirrorPages>[0] &
  Parameters<typeof createRulePages>[0] & {
    /** Undefined if logging in is not possible. */
    readonly sessions: Access['sessions'];
  };

export function createConsole({ show, sessions, body, ...deps }: ConsoleDeps): Hono {
  const app = new Hono();
  if (sessions) app.route('/', createLogin({ sessions, show, body }));
  const overview = createOverview(deps);
  const pages = { ...deps, show, body };
  app.route('/', createBuildList(pages));
  app.route('/', createStoragePages(pages));
  app.route('/', createTokenPages(pages));
  app.route('/', createRulePages(pages));
  app.route('/', createMakePages(pages));
  app.route('/', createMirrorPages(pages));
  app.get('/console', async c => show(c, await overview(c)));
  // Of all others it is no route.
  app.use('/', async (c, next) => (c.req.method === 'GET' && wantsPage(c) ? c.redirect('/console') : next()));
  return app;
}
