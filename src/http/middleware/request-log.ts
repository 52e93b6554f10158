// One line for each request. A token in a path is a credential: only its beginning is written.
import type { MiddlewareHandler } from 'hono';
import type { Logger } from 'pino';

interface AnsweredRequest {
  readonly method: string;
  /** From redactPath. */
  readonly path: string;
  readonly status: number;
  /** By performance.now(). */
  readonly startedAt: number;
}

export function createRequestLog(log: Logger): MiddlewareHandler {
  return async (c, next) => {
    const startedAt = performance.now();
    await next();
    logRequest(log, { method: c.req.method, path: redactPath(c.req.path), status: c.res.status, startedAt });
  };
}

export function logRequest(log: Logger, { startedAt, ...request }: AnsweredRequest): void {
  log.info({ ...request, durationMs: Math.round((performance.now() - startedAt) * 10) / 10 }, 'request');
}

/** The path without what a token or its request's id would give away. A slash may be written as %2F. */
export function redactPath(path: string): string {
  return path.slice(0, 1024).replace(/((?:wt|container|container-token)(?:\/|%2f))([0-9a-f]{4})[^/%]*/gi, '$1$2…');
}
