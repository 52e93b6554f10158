// Support for registry mirrors. With `ns`, clients name the registry of the original reference (distribution-spec "Registry Proxying"). And
// dockerd, which mirrors Docker Hub at the root of a registry, pulls the plain image from Docker Hub itself after any failure of its
// mirror, except a 5xx whose reason phrase is "no such process".
import type { ServerResponse } from 'node:http';
import type { Context, MiddlewareHandler } from 'hono';
import { RegistryError } from '../../oci/errors.ts';
import { isRegistryHost } from '../../oci/reference.ts';

const ALIAS = /^[A-Za-z0-9]+(?:[_-]+[A-Za-z0-9]+)*$/;
const MAX_LENGTH = 255;

/**
 * As sent; undefined where absent. Throws NAME_INVALID for one that cannot be a host or an alias, and for more than one.
 */
export function readNamespace(c: Context): string | undefined {
  const [namespace, ...more] = c.req.queries('ns') ?? [];
  if (namespace === undefined) return undefined;
  if (findNamespace(c) !== undefined) return namespace;
  const given = more.length > 0 ? 'given more than once' : `"${namespace.slice(0, MAX_LENGTH)}"`;
  throw new RegistryError('NAME_INVALID', `ns is ${given}: expected one registry, such as docker.io or quay.io`);
}

/** The same; undefined for an invalid one. */
export function findNamespace(c: Context): string | undefined {
  const [namespace, ...more] = c.req.queries('ns') ?? [];
  return namespace !== undefined && more.length === 0 && isNamespace(namespace) ? namespace : undefined;
}

function isNamespace(text: string): boolean {
  return text.length <= MAX_LENGTH && (isRegistryHost(text) || ALIAS.test(text));
}

/** Names the namespace in each response. */
export function createNamespaceEcho(): MiddlewareHandler {
  return async (c, next) => {
    await next();
    const namespace = findNamespace(c);
    if (namespace !== undefined) c.res.headers.set('OCI-Namespace', namespace);
  };
}

/** The Node server's bindings of a request. */
interface Env {
  readonly Bindings: { readonly outgoing?: ServerResponse };
}

export const STRICT_PATHS = ['/v2/:name{.+}/manifests/:reference', '/v2/:name{.+}/blobs/:digest'] as const;

const STATUS = 503;
const FINAL = 'no such process';

/**
 * For pulls of names without a registry, where the default upstream is strict. Responses to other clients are unchanged.
 */
export function createStrict(upstream: string): MiddlewareHandler<Env> {
  return async (c, next) => {
    const [first = '', ...rest] = (c.req.param('name') ?? '').split('/');
    await next();
    const isNamed = rest.length > 0 && isRegistryHost(first);
    const isDockerd = /^docker\//.test(c.req.header('User-Agent') ?? '');
    if (c.res.status < 400 || isNamed || !isDockerd || c.req.query('ns') !== undefined) return;
    const reason = c.error instanceof RegistryError ? c.error.message : 'request failed';
    const statusText = `${reasonPhrase(reason)} (${upstream} is strict: ${FINAL})`;
    const outgoing = c.env?.outgoing;
    // The Node server does not pass on a reason phrase.
    if (outgoing) outgoing.statusMessage = statusText;
    c.res = new Response(c.res.body, { status: STATUS, statusText, headers: c.res.headers });
  };
}

const MAX_REASON = 400;

/** A message as a reason phrase: in printable ASCII, and bounded. */
export function reasonPhrase(message: string): string {
  const bounded = message.length > MAX_REASON ? `${message.slice(0, MAX_REASON)}…` : message;
  return bounded.replaceAll('…', '...').replace(/[^\x20-\x7e]/g, '?');
}
