// What orchestrators and clients ask a service about itself.
import { Hono } from 'hono';
import type { Logger } from 'pino';
import type { Capabilities } from '../../builds/executor/platforms.ts';
import { formatPlatform } from '../../oci/platform.ts';

/** The level of the augment API that we are compatible with: clients refuse or complain below 1.31.0. */
const API_LEVEL = '1.37.0';

export function createHealth(deps: {
  readonly version: string;
  /** What this Veneer was built from. */
  readonly commit: string;
  readonly log: Logger;
  /** Rejects while requests cannot be served. */
  readonly checkReady: () => Promise<void>;
  /** Why an operator has to look, though requests are served; anybody reads it. */
  readonly listFaults: () => readonly string[];
  /** What does not keep requests from being served, and has to be known. */
  readonly listNotes?: (() => Promise<readonly string[]>) | undefined;
  /** What can be built here for now. */
  readonly listBuilders: () => Promise<readonly Capabilities[]>;
}): Hono {
  const { version, commit, log, checkReady, listFaults, listNotes = async () => [], listBuilders } = deps;
  const app = new Hono();
  app.get('/service-info', async c => {
    const builders = (await listBuilders()).map(describeBuilder);
    return c.json({ serviceInfo: { version: API_LEVEL, commitId: commit, veneerVersion: version, builders } });
  });
  app.get('/health/live', c => c.json({ status: 'UP' }));
  app.get('/health/ready', async c => {
    try {
      await checkReady();
      const notes = await listNotes();
      const about = notes.length > 0 ? { notes } : {};
      const reason = listFaults().join('; ');
      if (reason !== '') return c.json({ status: 'DOWN', reason, ...about }, 503);
      return c.json({ status: 'UP', ...about });
    } catch (error) {
      // Anybody may ask: what went wrong is for the log.
      log.error({ err: error }, 'not ready');
      return c.json({ status: 'DOWN', reason: 'records cannot be read: the log of Veneer has the cause' }, 503);
    }
  });
  return app;
}

/** Why one does not answer is for the log: it may name what only operators know. */
function describeBuilder({ backend, platforms, fault }: Capabilities) {
  const { name, kind } = backend;
  const notes = backend.listNotes?.() ?? [];
  return {
    name,
    kind,
    isAvailable: fault === undefined,
    platforms: platforms.map(formatPlatform),
    ...(notes.length > 0 && { notes }),
  };
}
