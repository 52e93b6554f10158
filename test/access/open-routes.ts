// Finds the routes of the distribution API that answer somebody who has no right: each should ask for one before anything else.
import type { Hono } from 'hono';

const PARAMETERS: Readonly<Record<string, string>> = {
  name: 'local/app',
  reference: 'latest',
  digest: `sha256:${'0'.repeat(64)}`,
  id: '00000000-0000-4000-8000-000000000000',
};
const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'] as const;

/**
 * Asks each route under /v2, with each of its methods and no credentials, for something. `app` has access configured with no grant at all.
 * Gives `METHOD path` of those that do not answer 401 with a challenge. A path that ends in a wildcard is asked for, once, at a name of its own.
 */
export async function findOpenRoutes(app: Pick<Hono, 'routes' | 'request'>): Promise<readonly string[]> {
  const open: string[] = [];
  for (const { name, method, path } of listRoutes(app).filter(({ path }) => /^\/v2(\/|$)/.test(path))) {
    const response = await app.request(path, { method });
    if (response.status !== 401 || !response.headers.has('WWW-Authenticate')) open.push(name);
  }
  return open;
}

/** Each route with each of its methods, and a path of it to ask for. */
export function listRoutes({ routes }: Pick<Hono, 'routes'>): readonly (Route & { readonly name: string })[] {
  const all = routes
    .flatMap(withMethods)
    .map(({ method, path }) => ({ name: `${method} ${path}`, method, path: fillPath(path) }));
  return [...new Map(all.map(route => [route.name, route])).values()];
}

interface Route {
  readonly method: string;
  readonly path: string;
}

function withMethods({ method, path }: Route): readonly Route[] {
  // Middleware is registered for all methods of a wildcard, and is no route.
  if (method === 'ALL') return path.endsWith('*') ? [] : METHODS.map(each => ({ method: each, path }));
  return method === 'GET'
    ? [
        { method, path },
        { method: 'HEAD', path },
      ]
    : [{ method, path }];
}

function fillPath(path: string): string {
  return path
    .replace(/:(\w+)(?:\{(?:[^{}]|\{[^}]*\})*\})?\??/g, (_, name: string) => PARAMETERS[name] ?? 'x')
    .replace(/\*$/, 'anything');
}
