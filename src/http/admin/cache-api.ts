// Cache administration in the service that has the cache open. Answers are lines of JSON; progress lines keep the connection alive.

import { type Context, Hono } from 'hono';
import type { Logger } from 'pino';
import { z } from 'zod';
import type { CacheAdmin } from '../../cache/admin/cache-admin.ts';
import { CACHE_LINES_MEDIA_TYPE, type CacheLine, encodeLine } from '../../cache/admin/lines.ts';
import { RegistryError } from '../../oci/errors.ts';
import { EXPECTED_GLOB, isQuickGlob } from '../../oci/name-pattern.ts';
import { ApiError } from '../../submit/errors.ts';
import { requireAdmin } from '../middleware/authentication.ts';
import { noteAction } from '../middleware/request-log.ts';

export function createCacheApi({ admin, log }: { readonly admin: CacheAdmin; readonly log: Logger }): Hono {
  const app = new Hono();

  function send(c: Context, answer: AsyncGenerator<CacheLine>): Response {
    const lines = ReadableStream.from(encode(answer, error => log.error({ err: error }, 'reading the cache failed')));
    return c.body(lines, 200, { 'Content-Type': CACHE_LINES_MEDIA_TYPE, 'Cache-Control': 'no-store' });
  }

  app.use('/v1/cache/*', async (c, next) => {
    requireAdmin(c);
    await next();
  });
  app.get('/v1/cache/stat', c => send(c, admin.stat()));
  app.get('/v1/cache/content', c => send(c, admin.list(c.req.query('repository'))));
  app.post('/v1/cache/prune', c => {
    const wanted = parseQuery(c, pruneSchema);
    noteAction(c, 'cache.prune', { target: JSON.stringify(wanted) });
    return send(c, admin.prune(wanted));
  });
  app.post('/v1/cache/verify', c => send(c, admin.verify(parseQuery(c, verifySchema))));
  return app;
}

const single = z.tuple([z.string()]).transform(([text]) => text);
const number = single.pipe(z.string().regex(/^\d{1,15}$/, 'expected a whole number')).transform(Number);
const flag = single.pipe(z.stringbool({ truthy: ['true'], falsy: ['false'] }));
const MAX_PATTERNS = 100;

const pruneSchema = z
  .strictObject({
    unusedMs: number.optional(),
    toBytes: number.optional(),
    repositories: z
      .array(z.string().min(1).max(255).refine(isQuickGlob, EXPECTED_GLOB))
      .min(1)
      .max(MAX_PATTERNS)
      .optional(),
    dryRun: flag.optional(),
    force: flag.optional(),
  })
  .refine(
    options => options.unusedMs !== undefined || options.toBytes !== undefined || options.repositories !== undefined,
    {
      message: 'name what to prune: unusedMs, toBytes or repositories',
    },
  );

const verifySchema = z.strictObject({ bytesPerSecond: number.refine(bytes => bytes > 0, 'is 0').optional() });

function parseQuery<T>(c: Context, schema: z.ZodType<T>): T {
  const { data, error } = schema.safeParse(c.req.queries());
  if (data !== undefined) return data;
  const faults = error?.issues.map(({ path, message }) => [path.join('.'), message].filter(Boolean).join(': '));
  throw new ApiError(400, `invalid query: ${faults?.join('; ').slice(0, 500)}`);
}

/** A client that stops reading stops the operation. After the first byte an error can only be sent as a line. */
async function* encode(answer: AsyncGenerator<CacheLine>, onFailed: (error: unknown) => void) {
  try {
    for await (const line of answer) yield encodeLine(line);
  } catch (error) {
    onFailed(error);
    const message =
      error instanceof RegistryError ? error.message : 'the cache could not be read: the log of Veneer has the cause';
    yield encodeLine({ kind: 'error', message });
  }
}
