// The registries that may be pulled from and pushed to: the configured ones, and where it is open, every public one.
import { LRUCache } from 'lru-cache';
import { RegistryError } from '../oci/errors.ts';
import { isRegistryHost } from '../oci/reference.ts';
import { openBody } from './body.ts';
import { type Clock, systemClock } from './clock.ts';
import type { Lookup, TlsOptions } from './connector.ts';
import type { HelperFailure } from './credential-helper.ts';
import { type Credentials, createDockerCredentials } from './credentials.ts';
import { createDialer, type Dialer, type DialerOptions, type Timeouts } from './dialer.ts';
import { createKnownRegistry, HUB, type KnownRegistry } from './known-registry.ts';
import { read, requireHttp } from './request.ts';
import type { Upstreams } from './upstream.ts';

export interface UpstreamEntry {
  /** Default: https at the entry's name. Plain http only where it is said here. */
  readonly url?: string | undefined;
  readonly credentials?: Credentials | undefined;
  readonly tls?: TlsOptions | undefined;
  /** Hosts, with their ports, that may get the credentials for a token, at any address and of any domain. */
  readonly tokenRealms?: readonly string[] | undefined;
  /** Hosts, with their ports, that a redirect may lead to although their address is private, and at which an upload may go on. */
  readonly redirectHosts?: readonly string[] | undefined;
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
  readonly onHelperFailed?: ((failure: HelperFailure) => void) | undefined;
  readonly helperTimeoutMs?: number | undefined;
  readonly clock?: Clock | undefined;
  readonly lookup?: Lookup | undefined;
}

const HUB_NAMES: readonly string[] = [HUB, 'index.docker.io', 'registry-1.docker.io'];
const MAX_OPEN_UPSTREAMS = 1000;

export function createUpstreams(options: UpstreamsOptions): Upstreams {
  const { timeouts, retries, retryDelayMs = 250, clock = systemClock, lookup } = options;
  const dialers: Dialer[] = [];
  const guarded = dial({ isGuarded: true });
  const unguarded = dial({ isGuarded: false });
  const { dockerConfigPath: configPath, onHelperFailed, helperTimeoutMs } = options;
  const findInDocker = configPath
    ? createDockerCredentials({ configPath, onHelperFailed, helperTimeoutMs })
    : undefined;
  const open = new LRUCache<string, KnownRegistry>({ max: MAX_OPEN_UPSTREAMS });
  const configured = new Map(
    Object.entries(options.entries).map(([key, entry]) => {
      const name = normalizeName(key);
      return [name, create(name, entry, dial({ isGuarded: false, tls: entry.tls }))];
    }),
  );

  function dial(more: Pick<DialerOptions, 'isGuarded' | 'tls'>): Dialer {
    const dialer = createDialer({ timeouts, retries, retryDelayMs, clock, lookup, ...more });
    dialers.push(dialer);
    return dialer;
  }

  function create(name: string, entry: UpstreamEntry, own: Dialer): KnownRegistry {
    const { tls, redirectHosts = [] } = entry;
    // Our certificate is for the upstream alone.
    const named =
      redirectHosts.length > 0 ? dial({ isGuarded: false, tls: { ...tls, cert: undefined, key: undefined } }) : guarded;
    return createKnownRegistry({ name, entry, findInDocker, dialers: { own, guarded, named }, clock });
  }

  function getOpen(name: string): KnownRegistry {
    if (!options.openUpstreams || !isRegistryHost(name)) {
      throw new RegistryError('DENIED', `the registry "${name.slice(0, 255)}" is not configured as an upstream`);
    }
    const registry = open.get(name) ?? create(name, {}, guarded);
    open.set(name, registry);
    return registry;
  }

  function get(registry: string): KnownRegistry {
    const name = normalizeName(registry);
    return configured.get(name) ?? getOpen(name);
  }

  return {
    get: registry => get(registry).upstream,
    getPusher: registry => get(registry).pusher,
    describe: registry => get(registry).describe(),
    async findCredentials(registry) {
      const credentials = await get(registry).findCredentials();
      return credentials && 'password' in credentials ? credentials : undefined;
    },
    has: component => configured.has(normalizeName(component)),
    async openUrl(url, { signal } = {}) {
      requireHttp(url);
      const attempt = { upstream: url.host, action: 'layer', missing: 'BLOB_UNKNOWN' } as const;
      const own = options.allowPrivateUrls ? unguarded : guarded;
      return openBody({
        attempt,
        isContentAddressed: false,
        signal,
        read: (headers, until) =>
          read(url, { method: 'GET', headers, signal: until, attempt, dialers: { own, elsewhere: () => own } }),
      });
    },
    async close() {
      await Promise.all(dialers.map(dialer => dialer.close()));
    },
  };
}

/** One name for each registry: in lower case, without the default port, docker.io for all its names. */
function normalizeName(registry: string): string {
  const name = registry.toLowerCase().replace(/:443$/, '');
  return HUB_NAMES.includes(name) ? HUB : name;
}
