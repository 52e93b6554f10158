// Usage statistics of the augment API for administrators; pulls by token are counted as they are answered.
import { Hono, type MiddlewareHandler } from 'hono';
import { InvalidPlatform, parsePlatform } from '../../oci/platform.ts';
import type { TokenRecord } from '../../pull/tokens/record.ts';
import type { Usage, UsageFilter, UsageMetric } from '../../pull/tokens/usage.ts';
import { ApiError } from '../../submit/errors.ts';
import { requireAdmin } from '../middleware/authentication.ts';

declare module 'hono' {
  interface ContextVariableMap {
    /** Set by admission for a pull by token. */
    token: TokenRecord;
  }
}

/** By the last component of the path. */
export const METRICS: Readonly<Record<string, UsageMetric>> = {
  builds: 'builds',
  pulls: 'pulls',
  'fusion/pulls': 'fusion',
  mirrors: 'mirrors',
  scans: 'scans',
};

export function createUsageApi(usage: Pick<Usage, 'read'>): Hono {
  const app = new Hono();
  for (const [path, metric] of Object.entries(METRICS)) {
    app.on('GET', [`/v1alpha2/metrics/${path}`, `/v1alpha3/metrics/${path}`], async c => {
      requireAdmin(c);
      const { date, org, arch } = c.req.query();
      const isThird = c.req.path.startsWith('/v1alpha3/');
      const filter = parseFilter({
        date: date || undefined,
        org: org || undefined,
        arch: (isThird && arch) || undefined,
      });
      return c.json({ metric, ...(await usage.read(metric, filter)) });
    });
  }
  return app;
}

const MAX_ORG = 255;

function parseFilter({ date, org, arch }: UsageFilter): UsageFilter {
  if (date !== undefined && !isDate(date)) throw new ApiError(400, 'date: must be a day as yyyy-mm-dd');
  if (org !== undefined && org.length > MAX_ORG) throw new ApiError(400, `org: has more than ${MAX_ORG} characters`);
  return { date, org, arch: arch === undefined ? undefined : parseArch(arch) };
}

function isDate(text: string): boolean {
  return /^\d{4}-\d\d-\d\d$/.test(text) && !Number.isNaN(Date.parse(text));
}

function parseArch(text: string): string {
  try {
    return parsePlatform(text).architecture;
  } catch (error) {
    if (!(error instanceof InvalidPlatform)) throw error;
    throw new ApiError(400, `arch: ${error.message}`, { cause: error });
  }
}

/**
 * Goes before the manifest routes for tokens. Each response for a tag counts as a pull: subsequent requests by digest belong to it.
 */
export function createPullCount(usage: Pick<Usage, 'count'>): MiddlewareHandler {
  return async (c, next) => {
    await next();
    const record = c.get('token');
    const isPull = record !== undefined && c.res.status === 200 && /\/manifests\/[^:/]+$/.test(c.req.path);
    if (!isPull) return;
    const used = { caller: record.caller ?? '', platform: record.request.containerPlatform };
    usage.count('pulls', used);
    if (record.request.fusionVersion !== undefined) usage.count('fusion', used);
  };
}
