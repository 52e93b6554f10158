// What becomes of builds and copies: their records, their logs as they run, and the way to end one or to try it again.
import { type Context, Hono } from 'hono';
import type { Logger } from 'pino';
import type { Builds } from '../builds/builds.ts';
import type { BuildRecord } from '../builds/record.ts';
import type { Origins } from '../pull/origin.ts';
import { ApiError } from './api-error.ts';
import { requireRight } from './authentication.ts';
import { createSendLog } from './build-log.ts';
import { buildResponse, buildStatusResponse } from './build-response.ts';
import { listVisible } from './builds-page.ts';
import { imageAddress } from './image-address.ts';
import { findPublicHost } from './public-host.ts';
import type { RatedBuilds } from './rated-builds.ts';

interface BuildsApiDeps {
  readonly builds: Builds;
  readonly ratedBuilds: Pick<RatedBuilds, 'retry'>;
  readonly origins: Origins;
  readonly publicUrl: string | undefined;
  readonly log: Logger;
}

/** Where builds are, and where copies; by what their ids begin with. */
const PATHS = { bd: '/v1alpha1/builds', mr: '/v1alpha1/mirrors' } as const;

export function createBuildsApi({ builds, ratedBuilds, origins, publicUrl, log }: BuildsApiDeps): Hono {
  const app = new Hono();
  const sendLog = createSendLog({ builds, log });

  /** Who may pull what is built may see how; whoever may build there may end it, or try again. Throws 404 for what is not there. */
  async function getBuild(c: Context, prefix: string, verbs: readonly ('pull' | 'build')[]): Promise<BuildRecord> {
    const build = await builds.find(c.req.param('id') ?? '');
    if (!build?.id.startsWith(prefix)) throw new ApiError(404, 'this build is unknown, or its record was let go');
    for (const verb of verbs) requireRight(c, verb, build.spec.target.repository);
    return build;
  }

  function describeFor(c: Context): (build: BuildRecord) => object {
    const host = findPublicHost(publicUrl, c.req.header('Host'));
    return build => buildResponse(build, imageAddress(build.image, origins, host));
  }

  app.get(PATHS.bd, async c => c.json({ builds: (await listVisible(c, builds)).map(describeFor(c)) }));
  for (const [prefix, path] of Object.entries(PATHS)) {
    const see = (c: Context) => getBuild(c, prefix, ['pull']);
    const change = (c: Context) => getBuild(c, prefix, ['pull', 'build']);
    app.get(`${path}/:id`, async c => c.json(describeFor(c)(await see(c))));
    app.get(`${path}/:id/status`, async c => c.json(buildStatusResponse(await see(c))));
    app.get(`${path}/:id/logs`, async c => sendLog(c, await see(c), describeFor(c)));
    app.post(`${path}/:id/cancel`, async c => {
      const build = await change(c);
      return c.json(describeFor(c)((await builds.cancel(build.id)) ?? build));
    });
    app.post(`${path}/:id/retry`, async c => c.json(describeFor(c)(await ratedBuilds.retry(c, await change(c)))));
  }
  return app;
}
