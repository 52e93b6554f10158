// The registries that may be pulled from: the configured ones, and where it is open, every public one.
import { LRUCache } from 'lru-cache';
import { RegistryError } from '../oci/errors.ts';
import { isRegistryHost } from '../oci/reference.ts';
import { createAuthorizer } from './bearer.ts';
import { openBody } from './body.ts';
import { type Credentials, createDockerCredentials } from './credentials.ts';
import { createDialer, type DialerOptions, type Timeouts, type TlsOptions } from './dialer.ts';
import { createRegistry } from './registry.ts';
import { type Dialers, read, requireHttp } from './request.ts';
import type { Upstream, Upstreams } from './upstream.ts';

export interface UpstreamEntry {
  /** Default: https at the entry's name. Plain http only where it is said here. */
  readonly url?: string | undefined;
  readonly credentials?: Credentials | undefined;
  readonly tls?: TlsOptions | undefined;
}

export interface UpstreamsOptions {
  /** By host or alias. */
  readonly entries: Readonly<Record<string, UpstreamEntry>>;
  /** Whether public registries without an entry may be pulled from. */
  readonly openUpstreams: boolean;
  /** Whether openUrl may reach private addresses. */
  readonly allowPrivateUrls: boolean;
  readonly timeouts: Timeouts;
  /** How often a read is tried again after the first time. */
  readonly retries: number;
  /** The wait before the first retry; it doubles. */
  readonly retryDelayMs?: number | undefined;
  /** Docker's config.json, for upstreams whose entry has no credentials. */
  readonly dockerConfigPath?: string | undefined;
}

const HUB = 'docker.io';
const HUB_URL = 'https://registry-1.docker.io';
const HUB_NAMES: readonly string[] = [HUB, 'index.docker.io', 'registry-1.docker.io'];
const MAX_OPEN_UPSTREAMS = 1000;

export function createUpstreams(options: UpstreamsOptions): Upstreams {
  const { timeouts, retries, retryDelayMs = 250 } = options;
  const dial = (more: Pick<DialerOptions, 'isGuarded' | 'tls'>) =>
    createDialer({ timeouts, retries, retryDelayMs, ...more });
  const guarded = dial({ isGuarded: true });
  const unguarded = dial({ isGuarded: false });
  const findInDocker = options.dockerConfigPath ? createDockerCredentials(options.dockerConfigPath) : undefined;
  const open = new LRUCache<string, Upstream>({ max: MAX_OPEN_UPSTREAMS });
  const configured = new Map<string, { readonly upstream: Upstream; readonly dialers: Dialers }>();

  function create(name: string, entry: UpstreamEntry, dialers: Dialers): Upstream {
    const url = new URL(entry.url ?? (name === HUB ? HUB_URL : `https://${name}`));
    const host = name === HUB ? HUB : url.host;
    const findCredentials = async () => entry.credentials ?? findInDocker?.(host);
    const authorizer = createAuthorizer({ upstream: name, url, dialer: dialers.own, findCredentials });
    return createRegistry({ name, url, authorizer, dialers });
  }

  for (const [key, entry] of Object.entries(options.entries)) {
    const name = normalizeName(key);
    const dialers = { own: dial({ isGuarded: false, tls: entry.tls }), guarded };
    configured.set(name, { upstream: create(name, entry, dialers), dialers });
  }

  function getOpen(name: string): Upstream {
    if (!options.openUpstreams || !isRegistryHost(name)) {
      throw new RegistryError('DENIED', `the registry "${name.slice(0, 255)}" is not configured as an upstream`);
    }
    const upstream = open.get(name) ?? create(name, {}, { own: guarded, guarded });
    open.set(name, upstream);
    return upstream;
  }

  return {
    get(registry) {
      const name = normalizeName(registry);
      return configured.get(name)?.upstream ?? getOpen(name);
    },
    has: component => configured.has(normalizeName(component)),
    async openUrl(url, { signal } = {}) {
      requireHttp(url);
      const attempt = { upstream: url.host, action: 'layer', missing: 'BLOB_UNKNOWN' } as const;
      const dialer = options.allowPrivateUrls ? unguarded : guarded;
      const dialers = { own: dialer, guarded: dialer };
      return openBody(await read(url, { method: 'GET', signal, attempt, dialers }), attempt);
    },
    async close() {
      const own = [...configured.values()].map(({ dialers }) => dialers.own);
      await Promise.all([guarded, unguarded, ...own].map(dialer => dialer.destroy()));
    },
  };
}

/** One name for each registry: in lower case, without the default port, docker.io for all its names. */
function normalizeName(registry: string): string {
  const name = registry.toLowerCase().replace(/:443$/, '');
  return HUB_NAMES.includes(name) ? HUB : name;
}
