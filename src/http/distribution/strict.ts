// Failures that dockerd takes as final. It mirrors Docker Hub at the root of a registry, and after any other failure of its mirror, of whatever
// status, pulls the plain image from Docker Hub itself. Only a 5xx whose reason phrase says that there is no such process ends its pull.
import type { ServerResponse } from 'node:http';
import type { MiddlewareHandler } from 'hono';
import { RegistryError } from '../../oci/errors.ts';
import { isRegistryHost } from '../../oci/reference.ts';

/** What the Node server gives with a request. */
interface Env {
  readonly Bindings: { readonly outgoing?: ServerResponse };
}

export const STRICT_PATHS = ['/v2/:name{.+}/manifests/:reference', '/v2/:name{.+}/blobs/:digest'] as const;

const STATUS = 503;
const FINAL = 'no such process';
const MAX_REASON = 300;

/** For pulls of names without a registry, where the default upstream is strict. To any other client an answer stays as it is. */
export function createStrict(upstream: string): MiddlewareHandler<Env> {
  return async (c, next) => {
    const [first = '', ...rest] = (c.req.param('name') ?? '').split('/');
    await next();
    const isNamed = rest.length > 0 && isRegistryHost(first);
    const isDockerd = /^docker\//.test(c.req.header('User-Agent') ?? '');
    if (c.res.status < 400 || isNamed || !isDockerd || c.req.query('ns') !== undefined) return;
    const statusText = reasonPhrase(c.error, upstream);
    const outgoing = c.env?.outgoing;
    // The Node server passes no reason phrase on.
    if (outgoing) outgoing.statusMessage = statusText;
    c.res = new Response(c.res.body, { status: STATUS, statusText, headers: c.res.headers });
  };
}

/** The only part of the answer that dockerd shows. */
function reasonPhrase(error: Error | undefined, upstream: string): string {
  const reason = error instanceof RegistryError ? error.message : 'request failed';
  const printable = reason.slice(0, MAX_REASON).replace(/[^\x20-\x7e]/g, '?');
  return `${printable} (${upstream} is strict: ${FINAL})`;
}
