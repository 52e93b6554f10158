// A page of the list of builds: those that the caller may see, however many others lie between them.
import type { Context } from 'hono';
import type { Builds } from '../builds/builds.ts';
import { type BuildRecord, buildRecordSchema } from '../builds/record.ts';
import { ApiError } from './api-error.ts';
import { hasRight } from './authentication.ts';

const DEFAULT_PAGE = 20;
const MAX_PAGE = 100;
/** So many are looked at for one page, and no more. */
const MAX_SCANNED = 5000;
const STATUSES = buildRecordSchema.shape.status.options;

/** By `limit`, `after` and `status` of the query, the newest first. Throws ApiError. */
export async function listVisible(c: Context, builds: Pick<Builds, 'list'>): Promise<readonly BuildRecord[]> {
  const limit = parseLimit(c.req.query('limit'));
  const status = parseStatus(c.req.query('status'));
  const visible: BuildRecord[] = [];
  let after = c.req.query('after');
  for (let scanned = 0; visible.length < limit && scanned < MAX_SCANNED; ) {
    const page = await builds.list({ limit: MAX_PAGE, after, status });
    const last = page.at(-1);
    if (!last) break;
    visible.push(...page.filter(({ spec }) => hasRight(c, 'pull', spec.target.repository)));
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
