// Builds and copies: their records, their logs as they run, cancelling and retrying.
import { type Context, Hono } from 'hono';
import type { Logger } from 'pino';
import { subjectOf } from '../../access/access.ts';
import { CONTEXTS_PATH, type ContextOffers } from '../../builds/backends/kubernetes/archive.ts';
import type { Builds } from '../../builds/builds.ts';
import { findCondaLock } from '../../builds/packages/conda-templates.ts';
import { readLogEnd } from '../../builds/progress.ts';
import { type BuildRecord, buildRecordSchema } from '../../builds/record.ts';
import type { Origins } from '../../pull/origin.ts';
import type { TokenRecord } from '../../pull/tokens/record.ts';
import type { ScanRecord } from '../../scans/record.ts';
import type { Scans } from '../../scans/scans.ts';
import { ApiError } from '../../submit/errors.ts';
import type { RateLimitedBuilds } from '../../submit/rate-limited-builds.ts';
import { callerOf, hasRight, isAdmin, requesterOf, requireRight } from '../middleware/authentication.ts';
import { noteAction } from '../middleware/request-log.ts';
import { createSendLog } from './build-log.ts';
import { type BuildDetails, buildResponse, buildStatusResponse, hasEnded } from './build-response.ts';
import { findPublicHost, imageAddress } from './public-host.ts';
import { awaitEnd, type StatusWait } from './status-wait.ts';

/** The paths of builds and of copies, by the prefix of their ids. */
const PATHS = { bd: '/v1alpha1/builds', mr: '/v1alpha1/mirrors' } as const;

/**
 * The caller who started a build may see it while permitted to pull what is built, and cancel or retry it while permitted to build there.
 * Throws 404 for a build that does not exist, or is another caller's.
 */
export type GetBuild = (c: Context, prefix: string, verbs: readonly ('pull' | 'build')[]) => Promise<BuildRecord>;

export function createGetBuild(builds: Pick<Builds, 'find' | 'wasSubmittedBy'>): GetBuild {
  return async (c, prefix, verbs) => {
    const build = await builds.find(c.req.param('id') ?? '');
    if (!build?.id.startsWith(prefix)) throw unknownBuild();
    if (isAdmin(c)) return build;
    for (const verb of verbs) requireRight(c, verb, build.spec.target.repository);
    if (!(await maySeeBuild(c, build, builds))) throw unknownBuild();
    return build;
  };
}

export function createBuildsApi(deps: {
  readonly builds: Builds;
  readonly getBuild: GetBuild;
  readonly scans: Pick<Scans, 'findOfBuild'>;
  readonly limitedBuilds: Pick<RateLimitedBuilds, 'retry'>;
  readonly origins: Origins;
  readonly publicUrl: string | undefined;
  readonly statusWait: StatusWait;
  readonly log: Logger;
}): Hono {
  const { builds, getBuild, scans, limitedBuilds, origins, publicUrl, statusWait, log } = deps;
  const app = new Hono();
  const sendLog = createSendLog({ builds, log });

  function describeFor(c: Context): (build: BuildRecord, more?: BuildDetails) => object {
    const host = findPublicHost(publicUrl, c.req.header('Host'));
    return (build, more) => buildResponse(build, imageAddress(build.image, origins, host), more);
  }

  /** The end of the log of a finished build; undefined where there is none. */
  async function findLogs(c: Context, build: BuildRecord): Promise<string | undefined> {
    if (!hasEnded(build)) return undefined;
    return readLogEnd(await builds.openLog(build.id, { follow: false, signal: c.req.raw.signal }), MAX_LOG_IN_RECORD);
  }

  /** The lock file that conda printed during the build. Throws 404 with the reason where there is none. */
  async function sendCondaLock(c: Context, build: BuildRecord): Promise<Response> {
    const entries = await builds.openLog(build.id, { follow: false, signal: c.req.raw.signal });
    const lock = entries && (await findCondaLock(entries, c.req.query('platform')));
    if (lock !== undefined) return c.body(lock, 200, { 'Content-Type': 'text/plain; charset=utf-8' });
    throw new ApiError(404, `${build.id} has no lock file: ${whyNoLock(build)}`);
  }

  app.get(PATHS.bd, async c => {
    const describe = describeFor(c);
    return c.json({ builds: (await listVisible(c, builds)).map(build => describe(build)) });
  });
  for (const [prefix, path] of Object.entries(PATHS)) {
    const see = (c: Context) => getBuild(c, prefix, ['pull']);
    const change = (c: Context) => getBuild(c, prefix, ['pull', 'build']);
    app.get(`${path}/:id`, async c => {
      const build = await see(c);
      const logs = prefix === 'mr' ? await findLogs(c, build) : undefined;
      return c.json(describeFor(c)(build, { logs, scanId: await scans.findOfBuild(build.id) }));
    });
    app.get(`${path}/:id/status`, async c => {
      return c.json(buildStatusResponse(await awaitEnd(await see(c), { builds, wait: statusWait, c })));
    });
    app.get(`${path}/:id/logs`, async c => sendLog(c, await see(c), describeFor(c)));
    app.post(`${path}/:id/cancel`, async c => {
      const build = await change(c);
      noteAction(c, 'build.cancel', { target: build.id });
      return c.json(describeFor(c)((await builds.cancel(build.id)) ?? build));
    });
    app.post(`${path}/:id/retry`, async c => {
      const build = await change(c);
      noteAction(c, 'build.retry', { target: build.id });
      requireRight(c, 'build', build.spec.target.repository);
      return c.json(describeFor(c)(await limitedBuilds.retry(requesterOf(c), build)));
    });
  }
  app.get(`${PATHS.bd}/:id/condalock`, async c => sendCondaLock(c, await getBuild(c, 'bd', ['pull'])));
  return app;
}

function unknownBuild(): ApiError {
  return new ApiError(404, 'this build is unknown, or its record was deleted');
}

/** In characters. */
const MAX_LOG_IN_RECORD = 64 * 1024;

function whyNoLock(build: BuildRecord): string {
  if (!build.packages?.template.startsWith('conda/')) return 'it does not install conda packages';
  if (!hasEnded(build)) return 'it has not installed its packages yet';
  if (build.status === 'failed') return 'it failed before its packages were installed';
  return 'its packages came from the cache of the builder, or its log was deleted';
}

const DEFAULT_PAGE = 20;
const MAX_PAGE = 100;
/** At most this many records are examined for one page. */
const MAX_SCANNED = 5000;
const STATUSES = buildRecordSchema.shape.status.options;

/**
 * The builds that the caller may see, however many others are in between: by `limit`, `after` and `status`, newest first. Throws ApiError.
 */
export async function listVisible(
  c: Context,
  builds: Pick<Builds, 'list' | 'wasSubmittedBy'>,
): Promise<readonly BuildRecord[]> {
  const limit = parseLimit(c.req.query('limit') || undefined);
  const status = parseStatus(c.req.query('status') || undefined);
  const visible: BuildRecord[] = [];
  let after = c.req.query('after') || undefined;
  for (let scanned = 0; visible.length < limit && scanned < MAX_SCANNED; ) {
    const page = await builds.list({ limit: MAX_PAGE, after, status });
    const last = page.at(-1);
    if (!last) break;
    for (const build of page) if (await maySeeBuild(c, build, builds)) visible.push(build);
    scanned += page.length;
    after = last.id;
  }
  return visible.slice(0, limit);
}

function parseLimit(text: string | undefined): number {
  if (text === undefined) return DEFAULT_PAGE;
  if (!/^[1-9]\d{0,8}$/.test(text))
    throw new ApiError(400, `limit is "${text.slice(0, 20)}": expected a whole number from 1`);
  return Math.min(Number(text), MAX_PAGE);
}

function parseStatus(text: string | undefined): BuildRecord['status'] | undefined {
  const status = STATUSES.find(known => known === text);
  if (text !== undefined && !status)
    throw new ApiError(400, `status is "${text.slice(0, 20)}": expected ${STATUSES.join(', ')}`);
  return status;
}

// Build contexts for the pods that build them: the URL itself is the credential, like a token in a path.

export function createContextsApi(offers: ContextOffers): Hono {
  const app = new Hono();
  app.get(`${CONTEXTS_PATH}:name`, async c => {
    const { expires = '', signature = '' } = c.req.query();
    const context = await offers.open(c.req.param('name'), { expires, signature });
    if (!context) throw new ApiError(404, 'this build context is unknown or has expired');
    const headers = { 'Content-Type': 'application/gzip', 'Cache-Control': 'no-store' };
    if (c.req.method === 'HEAD') {
      await context[Symbol.asyncIterator]().return?.();
      return c.body(null, 200, headers);
    }
    return c.body(ReadableStream.from(context), 200, headers);
  });
  return app;
}

// Ownership of builds, copies and tokens: callers do not see those of others.

/**
 * Whether a build is the caller's own, or shared: started by an unnamed caller, or by a pull that a recipe applies to. Shared builds are
 * visible to anyone who may pull the image; so are own builds, while their owner may pull it. Administrators see all.
 */
async function maySeeBuild(
  c: Context,
  { id, caller, isShared = false, spec }: BuildRecord,
  builds: Pick<Builds, 'wasSubmittedBy'>,
): Promise<boolean> {
  if (isAdmin(c)) return true;
  if (!hasRight(c, 'pull', spec.target.repository)) return false;
  if (caller === '' || isShared) return true;
  const subject = subjectOf(callerOf(c));
  return subject !== '' && (subject === caller || builds.wasSubmittedBy(id, subject));
}

/**
 * Whether the caller requested a scan, or an anonymous caller did. Independent of the right to pull the image. Administrators see all.
 */
export async function maySeeScan(
  c: Context,
  { id, caller }: ScanRecord,
  scans: Pick<Scans, 'wasRequestedBy'>,
): Promise<boolean> {
  if (caller === '' || isAdmin(c)) return true;
  const subject = subjectOf(callerOf(c));
  return subject !== '' && (subject === caller || scans.wasRequestedBy(id, subject));
}

/**
 * Whether the caller may see a token's record, and revoke it: its owner, and a client without credentials, for which the token is one, as
 * in a pull. Another named caller must have got it by accident.
 */
export function maySeeToken(c: Context, { caller: owner = '' }: TokenRecord): boolean {
  const subject = subjectOf(callerOf(c));
  return owner === '' || subject === '' || subject === owner || isAdmin(c);
}
