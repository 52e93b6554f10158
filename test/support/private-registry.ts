// What makes the test registry private: its users, which repositories each of them may pull, and who may pull without being one.
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Intercept } from './registry.ts';

interface User {
  readonly password: string;
  readonly repositories: readonly string[];
}

export interface PrivacyOptions {
  /** How users show who they are: to the registry, or to its token server, which knows strangers too. */
  readonly scheme: 'Basic' | 'Bearer';
  readonly users: Readonly<Record<string, User>>;
  /** What anyone may pull. */
  readonly open?: readonly string[];
}

export interface Privacy {
  /** Goes before the answers of the registry. */
  readonly intercept: Intercept;
  /** From now on the user is nobody's, and its tokens are worth nothing. */
  revoke(user: string): void;
}

/** A user that may not is 403; a stranger too where it has a token, else 401. */
export function createPrivacy({ scheme, users, open = [] }: PrivacyOptions): Privacy {
  const known = new Map(Object.entries(users));
  const tokens = new Map<string, string>();

  /** Undefined for a stranger, null for who is none of our users but says so. */
  function findUser({ headers: { authorization } }: IncomingMessage): string | null | undefined {
    if (authorization === undefined) return undefined;
    const [, value = ''] = /^Basic (.*)$/.exec(authorization) ?? [];
    const [name = '', ...password] = Buffer.from(value, 'base64').toString().split(':');
    return known.get(name)?.password === password.join(':') ? name : null;
  }

  function give(request: IncomingMessage, response: ServerResponse): void {
    const user = findUser(request);
    if (user === null) {
      deny(response, 401);
      return;
    }
    const token = randomUUID();
    tokens.set(token, user ?? '');
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ token, expires_in: 3600 }));
  }

  function findCaller(request: IncomingMessage): string | null | undefined {
    if (scheme === 'Basic') return findUser(request);
    const token = /^Bearer (.*)$/.exec(request.headers.authorization ?? '')?.[1];
    const user = token === undefined ? undefined : tokens.get(token);
    return user === undefined || user === '' || known.has(user) ? user : null;
  }

  function challenge(request: IncomingMessage, response: ServerResponse): void {
    const realm = `http://${request.headers.host}/token`;
    response.setHeader('www-authenticate', scheme === 'Basic' ? 'Basic realm="lab"' : `Bearer realm="${realm}"`);
    deny(response, 401);
  }

  return {
    revoke: user => known.delete(user),
    intercept(request, response) {
      const { pathname } = new URL(request.url ?? '', 'http://registry');
      if (pathname === '/token') {
        give(request, response);
        return true;
      }
      const [, repository = ''] = /^\/v2\/(.+)\/(?:manifests|blobs|tags|referrers)\//.exec(pathname) ?? [];
      const caller = findCaller(request);
      const isUnknown = caller === null || (caller === undefined && scheme === 'Bearer');
      const mayPull = open.includes(repository) || known.get(caller ?? '')?.repositories.includes(repository);
      if (!isUnknown && mayPull) return false;
      if (isUnknown || caller === undefined) challenge(request, response);
      else deny(response, 403);
      return true;
    },
  };
}

function deny(response: ServerResponse, status: 401 | 403): void {
  const code = status === 401 ? 'UNAUTHORIZED' : 'DENIED';
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify({ errors: [{ code }] }));
}
