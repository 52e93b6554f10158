// The registries that may be pulled from and pushed to: the configured ones, and where it is open, every public one.
import type { Memory } from '../memory.ts';
import { RegistryError } from '../oci/errors.ts';
import { createNameTest } from '../oci/name-pattern.ts';
import { isRegistryHost } from '../oci/reference.ts';
import { openBody } from './body.ts';
import type { BreakerChange } from './breaker.ts';
import { type Clock, systemClock } from './clock.ts';
import type { Lookup } from './connector.ts';
import type { HelperFailure } from './credential-helper.ts';
import { type Credentials, createDockerCredentials } from './credentials.ts';
import { createDialer, type Dialer, type DialerOptions, type Timeouts } from './dialer.ts';
import type { BreakerPolicy } from './gate.ts';
import { createKnownRegistry, HUB, type KnownRegistry } from './known-registry.ts';
import { createMirrored } from './mirrored.ts';
import { createOffline, offline } from './offline.ts';
import type { PlaceEntry, UpstreamEntry } from './place-entry.ts';
import { createReadDocument } from './read-document.ts';
import { read, requireHttp } from './request.ts';
import { createScopes, type ScopePolicy } from './scopes.ts';
import type { Place, Scope, ShowCredentials, Upstream, Upstreams } from './upstream.ts';

export interface UpstreamsOptions {
  /** By host or alias. */
  readonly entries: Readonly<Record<string, UpstreamEntry>>;
  /** Whether public registries without an entry may be pulled from. */
  readonly openUpstreams: boolean;
  /** Whether none is ever asked. */
  readonly offline?: boolean | undefined;
  /** Of upstreams without an entry, or whose entry says nothing of it. */
  readonly breaker?: BreakerPolicy | undefined;
  /** Hears of each breaker that opens or closes. */
  readonly onBreaker?: ((change: BreakerChange) => void) | undefined;
  /** Whether openUrl may reach private addresses. */
  readonly allowPrivateUrls: boolean;
  readonly timeouts: Timeouts;
  /** How often a read is tried again after the first time. */
  readonly retries: number;
  /** The longest wait before the first retry; it doubles. */
  readonly retryDelayMs?: number | undefined;
  /** What waits are spread by; default: Math.random. */
  readonly random?: (() => number) | undefined;
  /** Docker's config.json, for upstreams whose entry has no credentials. */
  readonly dockerConfigPath?: string | undefined;
  readonly onHelperFailed?: ((failure: HelperFailure) => void) | undefined;
  /** Hears of what is wrong with docker's config.json. */
  readonly onDockerConfigFault?: ((fault: string) => void) | undefined;
  readonly helperTimeoutMs?: number | undefined;
  /** Of entries with passCredentials, which need it. */
  readonly scopes?: ScopePolicy | undefined;
  readonly clock?: Clock | undefined;
  readonly memory: Memory;
  readonly lookup?: Lookup | undefined;
}

const HUB_NAMES: readonly string[] = [HUB, 'index.docker.io', 'registry-1.docker.io'];
/** What an upstream holds beside what its own caches do. */
const UPSTREAM_BYTES = 32 * 1024;

/** An upstream, and what of it is for more than pulls. */
interface Known extends Pick<KnownRegistry, 'pusher' | 'describe' | 'findCredentials'> {
  readonly open: (show?: ShowCredentials) => Upstream;
}

export function createUpstreams(options: UpstreamsOptions): Upstreams {
  const { timeouts, retries, retryDelayMs = 250, clock = systemClock, random, lookup, memory } = options;
  const dialers: Dialer[] = [];
  const readDocument = createReadDocument();
  const guarded = dial({ isGuarded: true });
  const unguarded = dial({ isGuarded: false });
  const { dockerConfigPath: configPath, onHelperFailed, onDockerConfigFault: onFault, helperTimeoutMs } = options;
  const findInDocker = configPath
    ? createDockerCredentials({ configPath, onHelperFailed, onFault, helperTimeoutMs })
    : undefined;
  const open = memory.openCache<Known>({ weigh: () => UPSTREAM_BYTES });
  const configured = new Map(
    Object.entries(options.entries).map(([key, entry]) => {
      const name = normalizeName(key);
      return [name, create(name, entry, dial({ isGuarded: false, tls: entry.tls }))];
    }),
  );

  function dial(more: Pick<DialerOptions, 'isGuarded' | 'tls'>): Dialer {
    const dialer = createDialer({ timeouts, retries, retryDelayMs, clock, random, lookup, ...more });
    dialers.push(dialer);
    return dialer;
  }

  /** Those of the entry whose host it is, or docker's. */
  async function findByHost(host: string): Promise<Credentials | undefined> {
    const entries = Object.entries(options.entries);
    const [, entry] = entries.find(([key, { url }]) => (url ? new URL(url).host : normalizeName(key)) === host) ?? [];
    return entry?.passCredentials ? undefined : (entry?.credentials ?? findInDocker?.(host));
  }

  function createPlace(name: string, entry: PlaceEntry, policy: UpstreamEntry, own: Dialer): KnownRegistry {
    const { tls, redirectHosts = [] } = entry;
    // Our certificate is for the place alone.
    const named =
      redirectHosts.length > 0 ? dial({ isGuarded: false, tls: { ...tls, cert: undefined, key: undefined } }) : guarded;
    const { onBreaker } = options;
    const gate = { ...policy, breaker: policy.breaker ?? options.breaker };
    return createKnownRegistry({
      name,
      entry,
      policy: gate,
      // What Veneer itself could open, it would open for every client.
      findInDocker: policy.passCredentials ? undefined : findInDocker,
      findElsewhere: policy.passCredentials ? undefined : findByHost,
      dialers: { own, guarded, named },
      readDocument,
      clock,
      memory,
      onBreaker,
    });
  }

  function create(name: string, entry: UpstreamEntry, dialer: Dialer): Known {
    const own = createPlace(name, entry, entry, dialer);
    const mirrors = (entry.mirrors ?? []).map(mirror => {
      const mirrorName = `${name} (mirror ${new URL(mirror.url).host})`;
      return createPlace(mirrorName, mirror, entry, dial({ isGuarded: false, tls: mirror.tls })).place;
    });
    const isOffline = options.offline || entry.offline === true;
    const isAllowed = createNameTest(entry.allow ?? ['**']);
    const isDenied = createNameTest(entry.deny ?? []);
    const place = isOffline ? createOffline(name) : createMirrored(mirrors, own.place, memory);
    const allows = (repository: string) => isAllowed(repository) && !isDenied(repository);
    const toUpstream = (place: Place, scope?: Scope) => ({ ...place, scope, isOffline, allows });
    if (entry.passCredentials) {
      const forClient: KnownRegistry['forClient'] = isOffline ? () => () => place : own.forClient;
      const find = createScopes({ ...requireScopes(name), name, clock, memory, forClient, toUpstream });
      return { ...own, open: show => find(show?.()) };
    }
    const upstream = toUpstream(place);
    return { ...own, open: () => upstream };
  }

  function requireScopes(name: string): ScopePolicy {
    if (!options.scopes) throw new TypeError(`${name} has passCredentials, and there is no policy of scopes`);
    return options.scopes;
  }

  function getOpen(name: string): Known {
    // Another spelling of an address, such as its port with a zero before it, would pass by the entry that it has.
    const isPlain = isRegistryHost(name) && URL.parse(`https://${name}`)?.host === name;
    if (!options.openUpstreams || !isPlain) {
      throw new RegistryError('DENIED', `the registry "${name.slice(0, 255)}" is not configured as an upstream`);
    }
    const registry = open.get(name) ?? create(name, {}, guarded);
    open.set(name, registry);
    return registry;
  }

  function get(registry: string): Known {
    const name = normalizeName(registry);
    return configured.get(name) ?? getOpen(name);
  }

  function getOnline(registry: string, action: string): Known {
    const known = get(registry);
    const { name, isOffline } = known.open();
    if (isOffline) throw offline(name, action);
    return known;
  }

  return {
    get: (registry, show) => get(registry).open(show),
    getPusher: registry => getOnline(registry, 'push').pusher,
    describe: registry => getOnline(registry, 'build').describe(),
    async findCredentials(registry) {
      const credentials = await get(registry).findCredentials();
      return credentials && 'password' in credentials ? credentials : undefined;
    },
    has: component => configured.has(normalizeName(component)),
    async openUrl(url, { signal, digest } = {}) {
      requireHttp(url);
      if (options.offline) throw offline(url.host, 'layer');
      const attempt = { upstream: url.host, action: 'layer', missing: 'BLOB_UNKNOWN' } as const;
      const own = options.allowPrivateUrls ? unguarded : guarded;
      return openBody({
        attempt,
        digest,
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
export function normalizeName(registry: string): string {
  const name = registry.toLowerCase().replace(/:443$/, '');
  return HUB_NAMES.includes(name) ? HUB : name;
}
