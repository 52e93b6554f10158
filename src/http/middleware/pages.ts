// Pages of the web: they have a browser on this machine ask us for things, also under a name of their own that leads here. What they ask for is
// refused, whatever it is, and what we answer does nothing in a browser.
import type { Context, MiddlewareHandler } from 'hono';
import { isLoopback } from '../../access/address.ts';
import { RegistryError } from '../../oci/errors.ts';
import { HEALTH_PATHS } from '../admin/health.ts';

/** Goes before all routes. Refuses with 421 what is addressed to somebody else, and with 403 what a page of another origin has sent. */
export function createPageGuard({
  isOpen,
  publicUrl,
  names,
  isClosed,
}: {
  /** Whether whoever is on this machine may do all: then no page is ours, and no name but those that we know. */
  readonly isOpen: boolean;
  readonly publicUrl: URL | undefined;
  /** Further hosts that are ours, without ports and as URLs have them; those of loopback are, in any case. */
  readonly names: readonly string[];
  /** Whether requests by any other name are refused where access is not open, too. */
  readonly isClosed: boolean;
}): MiddlewareHandler {
  const own = new Set([...names, ...(publicUrl ? [publicUrl.hostname] : [])]);
  const isOwnName = (name: string) => isLoopback(name) || own.has(name);

  /** The address bar is no page; neither is a client that is no browser. */
  function isAllowed(c: Context): boolean {
    const site = c.req.header('Sec-Fetch-Site') ?? 'none';
    const origin = c.req.header('Origin');
    return ['none', 'same-origin'].includes(site) && (origin === undefined || isOwnOrigin(c, origin));
  }

  /** A page that a proxy has put beside us. */
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

/** The host of the URL, and that of the header where a client sends both. */
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
 * Of every answer, errors too: whatever bytes it has, and whoever made them, a browser runs, frames and guesses nothing. A page of our own has a
 * policy of its own.
 */
export function createInertAnswers(): MiddlewareHandler {
  return async (c, next) => {
    await next();
    const own = c.res.headers.get(POLICY);
    for (const [name, value] of Object.entries(INERT)) c.res.headers.set(name, value);
    if (own !== null) c.res.headers.set(POLICY, own);
  };
}
