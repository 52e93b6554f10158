// What orchestrators and clients ask a service about itself.
import { Hono } from 'hono';

export interface HealthDeps {
  readonly version: string;
  /** Rejects while requests cannot be served. */
  readonly checkReady: () => Promise<void>;
}

/** The level of the augment API that we are compatible with: clients refuse or complain below 1.31.0. */
const API_LEVEL = '1.37.0';

export function createHealth({ version, checkReady }: HealthDeps): Hono {
  const app = new Hono();
  app.get('/service-info', c =>
    c.json({ serviceInfo: { version: API_LEVEL, commitId: 'unknown', veneerVersion: version } }),
  );
  app.get('/health/live', c => c.json({ status: 'UP' }));
  app.get('/health/ready', async c => {
    try {
      await checkReady();
      return c.json({ status: 'UP' });
    } catch (error) {
      return c.json({ status: 'DOWN', reason: error instanceof Error ? error.message : 'unknown' }, 503);
    }
  });
  return app;
}
