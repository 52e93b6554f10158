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

/** Whatever the Content-Type says. Throws 400 for what is no JSON. */
export async function readJson(c: Context): Promise<unknown> {
  try {
    return await c.req.json();
  } catch (cause) {
    if (cause instanceof SyntaxError) throw new ApiError(400, 'the body must be a JSON object', { cause });
    throw cause;
  }
}
