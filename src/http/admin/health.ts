// Health, version and metrics of the service, for orchestrators, clients and Prometheus.
import { type Context, Hono } from 'hono';
import type { Logger } from 'pino';
import { MissingRight } from '../../access/access.ts';
import { createAddressTest } from '../../access/address.ts';
import type { Capabilities } from '../../builds/executor/platforms.ts';
import { formatPlatform } from '../../oci/platform.ts';
import { clientAddress, requireAdmin } from '../middleware/authentication.ts';
import { noteError } from '../middleware/errors.ts';

/** The level of the augment API that we are compatible with: clients reject or warn below 1.31.0. */
const API_LEVEL = '1.37.0';

export function createHealth(deps: {
  readonly version: string;
  /** The commit that this Veneer was built from. */
  readonly commit: string;
  readonly check: CheckCondition;
  /** What can currently be built here. */
  readonly listBuilders: () => Promise<readonly Capabilities[]>;
}): Hono {
  const { version, commit, check, listBuilders } = deps;
  const app = new Hono();
  app.get('/service-info', async c => {
    const builders = (await listBuilders()).map(describeBuilder);
    return c.json({ serviceInfo: { version: API_LEVEL, commitId: commit, veneerVersion: version, builders } });
  });
  app.get('/health/live', c => c.json({ status: 'UP' }));
  for (const path of ['/health/ready', '/healthz']) {
    app.get(path, async c => {
      const { parts, notes } = await check();
      const about = { ...(parts.length > 0 && { parts }), ...(notes.length > 0 && { notes }) };
      const down = parts.filter(({ status }) => status === 'DOWN');
      if (down.length === 0) return c.json({ status: 'UP', ...about });
      const reason = down.map(({ reason: each }) => each).join('; ');
      noteError(c, { status: 503, code: 'UNAVAILABLE', message: reason });
      return c.json({ status: 'DOWN', reason, ...about }, 503);
    });
  }
  return app;
}

/** Problems and notes of the service; readable by anyone. */
interface Condition {
  readonly parts: readonly ReadinessProblem[];
  readonly notes: readonly string[];
}

export type CheckCondition = () => Promise<Condition>;

export function createCheckCondition(deps: {
  readonly log: Logger;
  /** Rejects while requests cannot be served. */
  readonly checkReady: () => Promise<void>;
  /** Reasons for an operator to act although requests are served; readable by anyone. */
  readonly listFaults: () => readonly string[];
  /** Worth knowing, but no reason not to serve requests. */
  readonly listNotes?: (() => Promise<readonly string[]>) | undefined;
  /** Parts other than the records that do not work. */
  readonly listProblems?: (() => Promise<readonly ReadinessProblem[]>) | undefined;
}): CheckCondition {
  const { log, checkReady, listFaults, listNotes = async () => [], listProblems = async () => [] } = deps;

  async function listRecordProblems(): Promise<readonly ReadinessProblem[]> {
    const problem = (reason: string) => ({ part: 'records', status: 'DOWN', fault: 'operator', reason }) as const;
    try {
      await checkReady();
      return listFaults().map(problem);
    } catch (error) {
      // Readable by anyone: details only go to the log.
      log.error({ err: error }, 'not ready');
      const faults = listFaults();
      return (faults.length > 0 ? faults : [UNREADABLE]).map(problem);
    }
  }

  return async () => ({
    parts: [...(await listRecordProblems()), ...(await listProblems())],
    notes: await listNotes().catch(() => []),
  });
}

const UNREADABLE = 'records cannot be read: the log of Veneer has the cause';

/** A part that does not work properly. */
export interface ReadinessProblem {
  readonly part: string;
  /** DEGRADED: everything else works, and a restart would not help. */
  readonly status: 'DOWN' | 'DEGRADED';
  /** Who can fix it; nobody: it is the expected state. */
  readonly fault: 'operator' | 'upstream' | 'builder' | 'nobody';
  /** One line; readable by anyone. */
  readonly reason: string;
}

/** Answered whatever the Host header, and when all connections are in use: orchestrators need them. */
export const HEALTH_PATHS: readonly string[] = ['/health/live', '/health/ready', '/healthz'];

/** The reason goes to the log only: it may contain names that only operators may know. */
export function describeBuilder({ backend, platforms, fault }: Capabilities) {
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

/**
 * Metrics name no repository and no caller, but reveal the load of the service: they are for administrators, and for networks named in the
 * configuration. Must come after createAuthentication.
 */
export function createMetricsApi({
  contentType,
  format,
  networks,
}: {
  readonly contentType: string;
  /** All metrics as text. */
  readonly format: () => Promise<string>;
  /** Addresses, or networks in CIDR notation. */
  readonly networks: readonly string[];
}): Hono {
  const isNamed = createAddressTest(networks);
  const app = new Hono();
  app.get('/metrics', async c => {
    requireReader(c, isNamed);
    return c.body(await format(), 200, { 'Content-Type': contentType, 'Cache-Control': 'no-store' });
  });
  return app;
}

function requireReader(c: Context, isNamed: (address: string | undefined) => boolean): void {
  if (isNamed(clientAddress(c))) return;
  try {
    requireAdmin(c);
  } catch (error) {
    if (!(error instanceof MissingRight)) throw error;
    const code = error.status === 401 ? 'UNAUTHORIZED' : 'DENIED';
    throw new MissingRight(code, `${error.message}; metrics.networks names who else may read metrics`);
  }
}
