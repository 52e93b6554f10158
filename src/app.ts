// The composition root: every room is made here and in app/, by hand, from the configuration.
import { join } from 'node:path';
import { Hono } from 'hono';
import { contextStorage } from 'hono/context-storage';
import type { Logger } from 'pino';
import { createAccessTokens } from './access/access-token.ts';
import { createAccess } from './access/create-access.ts';
import { createBuilding } from './app/building.ts';
import { createCaching } from './app/caching.ts';
import { createHosting } from './app/hosting.ts';
import type { Patience } from './app/open-upstreams.ts';
import { createPulling } from './app/pulling.ts';
import { createRoutes } from './app/routes.ts';
import type { Environment } from './build/environment.ts';
import { findOwnUrl } from './config/own-url.ts';
import type { Config } from './config/schema.ts';
import { createEvents } from './events/events.ts';
import { createRoutine } from './hosted/collect-routine.ts';
import { createRegistryEvents } from './http/registry-events.ts';
import { ownDirectory } from './state/owner.ts';
import { createSqliteStore } from './state/sqlite.ts';
import { createLedger } from './tokens/ledger.ts';

export interface App {
  readonly fetch: Hono['fetch'];
  /** What is answered, so that all of it can be looked at. */
  readonly routes: Hono['routes'];
  /** Stops builds, to go on at the next start: who waits for one is told to come again. Call it when no new connection is taken. */
  drain(): Promise<void>;
  /** Ends what the app holds: call it when no request is under way any more. */
  close(): Promise<void>;
}

export interface AppDeps {
  readonly config: Config;
  readonly log: Logger;
  readonly version: string;
  /** What this Veneer was built from. */
  readonly commit?: string | undefined;
  readonly now?: () => Date;
  readonly dockerConfigPath?: string | undefined;
  /** How patient we are with upstreams, where it is not the default. */
  readonly patience?: Partial<Patience>;
  /** What builders are looked for in, and what they get a part of. */
  readonly environment?: Environment;
  /** Our host with its port, as this machine reaches it; undefined as long as nobody listens. Default: as the configuration says. */
  readonly findListenHost?: () => string | undefined;
}

const SWEEP_EVERY_MS = 10 * 60_000;

export async function createApp({ config, log, now = () => new Date(), ...deps }: AppDeps): Promise<App> {
  const owner = ownDirectory(config.dataDir);
  const records = createSqliteStore({ path: join(config.dataDir, 'records.db'), now });
  const access = await createAccess({
    options: config.access,
    listenHost: config.listen.host,
    publicHost: config.publicUrl?.hostname,
    records,
    dataDir: config.dataDir,
    onFault: fault =>
      log.error({ reason: fault.message }, 'the file of users cannot be used: its last good state stays'),
    now,
  });
  log.info(access.summary);
  const events = createEvents({ endpoints: config.events.endpoints, records, log });
  const registryEvents = createRegistryEvents(events);
  const hosting = await createHosting({ config, records, now, onChange: registryEvents.changed });
  const ledger = createLedger({ records, now, ttlMs: config.tokens.ttlMs });
  const { dockerConfigPath, patience } = deps;
  const caching = await createCaching({ config, log, now, records });
  const pulling = createPulling({
    ...{ config, log, now, records, ledger, caching, dockerConfigPath, patience },
    hosted: hosting.registries,
  });

  const building = await createBuilding({
    ...{ config, log, now, records, pulling },
    hosted: hosting.hosted,
    accessTokens: config.access && createAccessTokens({ records, now }),
    environment: deps.environment ?? {},
    findListenHost: deps.findListenHost ?? (() => (config.listen.port === 0 ? undefined : findOwnUrl(config)?.host)),
    onEnded: registryEvents.built,
  });

  const app = new Hono();
  // Changes tell who made them; without endpoints nobody listens, and no request pays for it.
  if (config.events.endpoints.length > 0) app.use(contextStorage());
  createRoutes(app, {
    ...deps,
    ...{ config, log, now, ledger, access, registryEvents, building },
    ...{ hosted: hosting.hosted, collector: hosting.collector, cacheDesk: caching.desk, ...pulling },
    checkReady: async () => void (await records.list('token', { limit: 1 })),
  });

  const { everyMs } = config.hosted.collect;
  const routine =
    everyMs === undefined ? undefined : createRoutine({ collector: hosting.collector, records, now, everyMs });
  const sweep = async () => {
    await Promise.all([records.sweep(), hosting.hosted.sweep(), building.builds.sweep(), caching.sweep()]);
    const report = await routine?.runIfDue();
    if (report) log.info({ removed: report.removed, freedBytes: report.freedBytes }, 'collected');
  };
  const sweeper = setInterval(
    () => void sweep().catch(error => log.error({ err: error }, 'sweep failed')),
    SWEEP_EVERY_MS,
  );
  sweeper.unref();
  return {
    fetch: app.fetch,
    routes: app.routes,
    drain: () => building.builds.close(),
    async close() {
      clearInterval(sweeper);
      await routine?.close();
      await building.close();
      await events.close();
      await access.close();
      await pulling.close();
      await caching.close();
      await hosting.close();
      await records.close();
      owner.release();
    },
  };
}
