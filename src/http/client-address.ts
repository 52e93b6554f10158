// Where a request comes from, as the socket knows it: headers about it are only claims.
import type { IncomingMessage } from 'node:http';
import type { Context } from 'hono';

/** Undefined where a request did not come over a socket. */
export function clientAddress(c: Context<{ Bindings: { readonly incoming?: IncomingMessage } }>): string | undefined {
  // There is no environment at all where the app is called in process.
  return c.env?.incoming?.socket.remoteAddress;
}
