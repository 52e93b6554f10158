// Protection against web pages, which can make a browser on this machine send us requests, also under a foreign host name that resolves
// here. Such requests are rejected, and our responses are inert in a browser.
import type { Context, MiddlewareHandler } from 'hono';
import { isLoopback } from '../../access/address.ts';
import { RegistryError } from '../../oci/errors.ts';
import { HEALTH_PATHS } from '../admin/health.ts';

/**
 * Goes before all routes. Rejects requests for foreign host names with 421, and those sent by pages of other origins with 403.
 */
export function createPageGuard({
  isOpen,
  publicUrl,
  names,
  isClosed,
}: {
  /** Whether everyone on this machine has all rights: then no page is trusted, and only known host names are. */
  readonly isOpen: boolean;
  readonly publicUrl: URL | undefined;
  /** Additional own host names, without ports and in the form of URLs; loopback names always are. */
  readonly names: readonly string[];
  /** Whether requests for other host names are also rejected where access is not open. */
  readonly isClosed: boolean;
}): MiddlewareHandler {
  const own = new Set([...names, ...(publicUrl ? [publicUrl.hostname] : [])]);
  const isOwnName = (name: string) => isLoopback(name) || own.has(name);

  /** Neither the address bar nor a client that is not a browser is a page. */
  function isAllowed(c: Context): boolean {
    const site = c.req.header('Sec-Fetch-Site') ?? 'none';
    const origin = c.req.header('Origin');
    if (origin === undefined && isFollowedLink(c)) return true;
    return ['none', 'same-origin'].includes(site) && (origin === undefined || isOwnOrigin(c, origin));
  }

  /** A page that a proxy serves beside us. */
  function isOwnOrigin(c: Context, origin: string): boolean {
    const { host = '', hostname = '' } = URL.parse(origin) ?? {};
    return origin === publicUrl?.origin || (isOwnName(hostname) && host === new URL(c.req.url).host);
  }

  return async (c, next) => {
    if (!HEALTH_PATHS.includes(c.req.path)) {
      const foreignName = isOpen || isClosed ? namesOf(c).find(name => !isOwnName(name)) : undefined;
      if (foreignName !== undefined) throw misdirected(foreignName);
      if (!isAllowed(c)) throw new RegistryError('DENIED', 'requests from web pages are refused');
    }
    await next();
  };
}

/** A navigation to one of our pages from any origin: the browser displays it, and the linking page learns nothing. */
export function isFollowedLink(c: Context): boolean {
  const isPage = c.req.path === '/' || /^\/(?:console|view)(?:\/|$)/.test(c.req.path);
  const goes = c.req.header('Sec-Fetch-Mode') === 'navigate' && c.req.header('Sec-Fetch-Dest') === 'document';
  const isElsewhere = ['cross-site', 'same-site'].includes(c.req.header('Sec-Fetch-Site') ?? '');
  return isPage && goes && isElsewhere && c.req.method === 'GET';
}

/** The host of the URL, and that of the Host header where a client sends both. */
function namesOf(c: Context): readonly string[] {
  const { hostname } = new URL(c.req.url);
  const header = c.req.header('Host');
  return header === undefined ? [hostname] : [hostname, URL.parse(`http://${header}`)?.hostname ?? header];
}

function misdirected(name: string): RegistryError {
  const remedy = 'if clients reach it by that name, add the name to "hosts" in veneer.yaml';
  return new RegistryError('DENIED', `${name.slice(0, 255)} is not a name of this Veneer: ${remedy}`, { status: 421 });
}

const POLICY = 'Content-Security-Policy';

export const INERT = {
  'X-Content-Type-Options': 'nosniff',
  [POLICY]: "default-src 'none'; sandbox",
  'Cross-Origin-Resource-Policy': 'same-origin',
} as const;

/**
 * For every response, including errors: a browser runs, frames and sniffs nothing, whatever the bytes and their source. Our own pages have
 * a policy of their own.
 */
export function createInertAnswers(): MiddlewareHandler {
  return async (c, next) => {
    await next();
    const own = c.res.headers.get(POLICY);
    for (const [name, value] of Object.entries(INERT)) c.res.headers.set(name, value);
    if (own !== null) c.res.headers.set(POLICY, own);
  };
}
