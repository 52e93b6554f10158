// Errors become HTTP here, and only here: the registry's JSON under /v2, the API's message elsewhere.
import type { Context } from 'hono';
import { HTTPException } from 'hono/http-exception';
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import type { Logger } from 'pino';
import { RegistryError } from '../oci/errors.ts';
import { ApiError } from './api-error.ts';

/** What has no code of its own is UNKNOWN to the client, and logged with its cause. */
export function createErrorHandler(log: Logger): (error: Error, c: Context) => Response {
  return (error, c) => {
    const known = toRegistryError(error);
    if (known.status >= 500) log.error({ err: error, method: c.req.method }, 'request failed');
    if (known.retryAfterSeconds !== undefined) c.header('Retry-After', String(Math.ceil(known.retryAfterSeconds)));
    return respond(c, known);
  };
}

export function notFound(c: Context): Response {
  return respond(c, new RegistryError('UNKNOWN', `no such route: ${c.req.method} here`, { status: 404 }));
}

function respond(c: Context, error: RegistryError): Response {
  const status = error.status as ContentfulStatusCode;
  if (!c.req.path.startsWith('/v2')) return c.json({ message: error.message }, status);
  const { code, message, detail } = error;
  return c.json({ errors: [{ code, message, ...(detail !== undefined && { detail }) }] }, status);
}

function toRegistryError(error: Error): RegistryError {
  if (error instanceof RegistryError) return error;
  if (error instanceof ApiError) return new RegistryError('UNKNOWN', error.message, { status: error.status });
  if (error instanceof HTTPException) return new RegistryError('UNKNOWN', error.message, { status: error.status });
  return new RegistryError('UNKNOWN', 'internal error: the log of Veneer has the cause');
}
