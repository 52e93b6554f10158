// The `ns` of a mirror's client: the registry that its name was in before a mirror was put in its place. Distribution-spec "Registry Proxying".
import type { Context, MiddlewareHandler } from 'hono';
import { RegistryError } from '../../oci/errors.ts';
import { isRegistryHost } from '../../oci/reference.ts';

const ALIAS = /^[A-Za-z0-9]+(?:[_-]+[A-Za-z0-9]+)*$/;
const MAX_LENGTH = 255;

/** As it was sent; undefined where there is none. Throws NAME_INVALID for one that cannot be a host or an alias, and for more than one. */
export function readNamespace(c: Context): string | undefined {
  const [namespace, ...more] = c.req.queries('ns') ?? [];
  if (namespace === undefined) return undefined;
  if (findNamespace(c) !== undefined) return namespace;
  const given = more.length > 0 ? 'given more than once' : `"${namespace.slice(0, MAX_LENGTH)}"`;
  throw new RegistryError('NAME_INVALID', `ns is ${given}: expected one registry, such as docker.io or quay.io`);
}

/** The same; undefined for a faulty one. */
export function findNamespace(c: Context): string | undefined {
  const [namespace, ...more] = c.req.queries('ns') ?? [];
  return namespace !== undefined && more.length === 0 && isNamespace(namespace) ? namespace : undefined;
}

function isNamespace(text: string): boolean {
  return text.length <= MAX_LENGTH && (isRegistryHost(text) || ALIAS.test(text));
}

/** Says on each answer which namespace it is of. */
export function createNamespaceEcho(): MiddlewareHandler {
  return async (c, next) => {
    await next();
    const namespace = findNamespace(c);
    if (namespace !== undefined) c.res.headers.set('OCI-Namespace', namespace);
  };
}
