// JSON bodies of API requests, within their limit.
import type { Context, MiddlewareHandler } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import { ApiError } from './api-error.ts';

/** In front of a route that reads a body: one of more than `maxBytes` is a 413, before more of it is read. */
export function limitBody(maxBytes: number): MiddlewareHandler {
  return bodyLimit({
    maxSize: maxBytes,
    onError: () => {
      throw new ApiError(413, `the body is larger than the limit of ${maxBytes} bytes`);
    },
  });
}

const JSON_TYPE = /^application\/(?:[\w.+-]+\+)?json *(?:;|$)/i;

/** Throws 415 unless it is sent as JSON, which no page of another origin can do unasked; 400 for what is none. */
export async function readJson(c: Context): Promise<unknown> {
  if (!JSON_TYPE.test(c.req.header('Content-Type') ?? ''))
    throw new ApiError(415, 'the body must be sent as JSON, with the header Content-Type: application/json');
  try {
    return await c.req.json();
  } catch (cause) {
    if (cause instanceof SyntaxError) throw new ApiError(400, 'the body must be a JSON object', { cause });
    throw cause;
  }
}
