// The registries to pull from and push to: the configured ones and, where that is open, every public one.
import type { Memory } from '../memory.ts';
import { RegistryError } from '../oci/errors.ts';
import { createNameTest } from '../oci/name-pattern.ts';
import { isRegistryHost } from '../oci/reference.ts';
import { type Credentials, createDockerCredentials, type HelperFailure } from './auth/credentials.ts';
import { type ActingCredentials, createScopes, type ScopePolicy } from './auth/scopes.ts';
import type { BreakerChange } from './limits/breaker.ts';
import type { BreakerPolicy } from './limits/limits.ts';
import { createMirrored } from './registry/mirrored.ts';
import {
  createRegistryClient,
  type EndpointEntry,
  HUB,
  type RegistryClient,
  type UpstreamEntry,
} from './registry/registry-client.ts';
import { openBody } from './transport/body.ts';
import type { Lookup } from './transport/connector.ts';
import { createReadDocument, read, requireHttp } from './transport/request.ts';
import {
  createTransport,
  type Exchange,
  type Timeouts,
  type TraceRequest,
  type Transport,
  type TransportOptions,
} from './transport/transport.ts';
import type { Endpoint, GetCredentials, Scope, Upstream, Upstreams } from './upstream.ts';
import { type Clock, systemClock } from './waiting.ts';

export interface UpstreamsOptions {
  /** By host or alias. */
  readonly entries: Readonly<Record<string, UpstreamEntry>>;
  /** Whether public registries without an entry may be pulled from. */
  readonly openUpstreams: boolean;
  /** Whether none is ever contacted. */
  readonly offline?: boolean | undefined;
  /** For upstreams without an entry, or whose entry does not set it. */
  readonly breaker?: BreakerPolicy | undefined;
  /** Called for each breaker that opens or closes. */
  readonly onBreaker?: ((change: BreakerChange) => void) | undefined;
  /** Called for each request that is sent, with its answer. */
  readonly onExchange?: ((exchange: Exchange) => void) | undefined;
  readonly traceRequest?: TraceRequest | undefined;
  /** Whether openUrl may reach private addresses. */
  readonly allowPrivateUrls: boolean;
  readonly timeouts: Timeouts;
  /** The number of retries of a read. */
  readonly retries: number;
  /** The longest wait before the first retry; it doubles. */
  readonly retryDelayMs?: number | undefined;
  /** Randomises waits; default: Math.random. */
  readonly random?: (() => number) | undefined;
  /** Docker's config.json, for upstreams whose entry has no credentials. */
  readonly dockerConfigPath?: string | undefined;
  readonly onHelperFailed?: ((failure: HelperFailure) => void) | undefined;
  /** Called with errors of docker's config.json. */
  readonly onDockerConfigFault?: ((fault: string) => void) | undefined;
  readonly helperTimeoutMs?: number | undefined;
  /** Of entries with passCredentials, which need it. */
  readonly scopes?: ScopePolicy | undefined;
  /** Of callers who have stored some; needs `scopes`. */
  readonly acting?: ActingCredentials | undefined;
  readonly clock?: Clock | undefined;
  readonly memory: Memory;
  readonly lookup?: Lookup | undefined;
}

const HUB_NAMES: readonly string[] = [HUB, 'index.docker.io', 'registry-1.docker.io'];
/** The memory of an upstream besides its own caches. */
const UPSTREAM_BYTES = 32 * 1024;

/** An upstream, with its parts that are not only for pulls. */
interface Known extends Pick<RegistryClient, 'pusher' | 'describe' | 'findCredentials' | 'checkCredentials'> {
  readonly open: (getCredentials?: GetCredentials) => Upstream;
}

export function createUpstreams(options: UpstreamsOptions): Upstreams {
  const { timeouts, retries, retryDelayMs = 250, clock = systemClock, random, lookup, memory } = options;
  const { onExchange, traceRequest } = options;
  const transports: Transport[] = [];
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

  function dial(more: Pick<TransportOptions, 'isGuarded' | 'tls'>): Transport {
    const transport = createTransport({
      timeouts,
      retries,
      retryDelayMs,
      clock,
      random,
      lookup,
      onExchange,
      traceRequest,
      ...more,
    });
    transports.push(transport);
    return transport;
  }

  /** From the entry with this host, or docker's. */
  async function findByHost(host: string): Promise<Credentials | undefined> {
    const entries = Object.entries(options.entries);
    const [, entry] = entries.find(([key, { url }]) => (url ? new URL(url).host : normalizeName(key)) === host) ?? [];
    return entry?.passCredentials ? undefined : (entry?.credentials ?? findInDocker?.(host));
  }

  function createClient(
    { name, configKey }: { readonly name: string; readonly configKey?: string },
    entry: EndpointEntry,
    policy: UpstreamEntry,
    own: Transport,
  ): RegistryClient {
    const { tls, redirectHosts = [] } = entry;
    // The client certificate is for the registry only.
    const named =
      redirectHosts.length > 0 ? dial({ isGuarded: false, tls: { ...tls, cert: undefined, key: undefined } }) : guarded;
    const { onBreaker } = options;
    const limits = { ...policy, breaker: policy.breaker ?? options.breaker };
    return createRegistryClient({
      name,
      configKey,
      entry,
      policy: limits,
      // Content that Veneer opened with its own credentials would be open to every client.
      findInDocker: policy.passCredentials ? undefined : findInDocker,
      findElsewhere: policy.passCredentials ? undefined : findByHost,
      transports: { own, guarded, named },
      readDocument,
      clock,
      memory,
      onBreaker,
    });
  }

  function create(name: string, entry: UpstreamEntry, transport: Transport): Known {
    const own = createClient({ name, configKey: `upstreams.${name}` }, entry, entry, transport);
    const mirrors = (entry.mirrors ?? []).map(mirror => {
      const transport = dial({ isGuarded: false, tls: mirror.tls });
      return createClient({ name: mirrorName(name, new URL(mirror.url)) }, mirror, entry, transport).endpoint;
    });
    const isOffline = options.offline || entry.offline === true;
    const isAllowed = createNameTest(entry.allow ?? ['**']);
    const isDenied = createNameTest(entry.deny ?? []);
    const endpoint = isOffline ? createOffline(name) : createMirrored(mirrors, own.endpoint, memory);
    const allows = (repository: string) => isAllowed(repository) && !isDenied(repository);
    const toUpstream = (endpoint: Endpoint, scope?: Scope) => ({ ...endpoint, scope, isOffline, allows });
    if (entry.passCredentials) {
      const forClient: RegistryClient['forClient'] = isOffline ? () => () => endpoint : own.forClient;
      const find = createScopes({ ...requireScopes(name), name, clock, memory, forClient, toUpstream });
      return { ...own, open: getCredentials => find(getCredentials?.()) };
    }
    const upstream = toUpstream(endpoint);
    const { acting } = options;
    if (!acting || isOffline) return { ...own, open: () => upstream };
    const find = createScopes({ ...requireScopes(name), name, clock, memory, forClient: own.forClient, toUpstream });
    const open = () => {
      const credentials = acting.find(name);
      return credentials ? find(credentials) : upstream;
    };
    return { ...own, open };
  }

  function requireScopes(name: string): ScopePolicy {
    if (!options.scopes) throw new TypeError(`${name} has clients with credentials, and there is no policy of scopes`);
    return options.scopes;
  }

  function getOpen(name: string): Known {
    // A different spelling of an address, such as a port with a leading zero, would bypass its entry.
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
    get: (registry, getCredentials) => get(registry).open(getCredentials),
    getPusher: registry => getOnline(registry, 'push').pusher,
    describe: registry => getOnline(registry, 'build').describe(),
    async findCredentials(registry, { isRead = false } = {}) {
      const acting = isRead ? options.acting?.find(normalizeName(registry)) : undefined;
      const credentials = acting ?? (await get(registry).findCredentials());
      return credentials && 'password' in credentials ? credentials : undefined;
    },
    checkCredentials: async (registry, credentials, signal) =>
      getOnline(registry, 'login').checkCredentials(credentials, signal),
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
          read(url, { method: 'GET', headers, signal: until, attempt, transports: { own, elsewhere: () => own } }),
      });
    },
    async close() {
      await Promise.all(transports.map(transport => transport.close()));
    },
  };
}

/** The canonical name of a registry: lower-case, without the default port, docker.io for all its names. */
export function normalizeName(registry: string): string {
  const name = registry.toLowerCase().replace(/:443$/, '');
  return HUB_NAMES.includes(name) ? HUB : name;
}

/** The name of a mirror of an upstream, in messages and reports. */
export function mirrorName(upstream: string, { host }: URL): string {
  return `${upstream} (mirror ${host})`;
}

// An offline registry: only stored content is available.

/** 503, since it is unknown whether the registry has it: after a 404 a recipe would build it. */
function offline(name: string, what: string): RegistryError {
  return new RegistryError(
    'UNAVAILABLE',
    `${name}: ${what}: not cached, and the upstream is configured as offline (offline in veneer.yaml)`,
  );
}

/** Every call throws UNAVAILABLE. */
function createOffline(name: string): Endpoint {
  const refuse = async (what: string): Promise<never> => {
    throw offline(name, what);
  };
  return {
    name,
    headManifest: (repository, reference) => refuse(`${repository}/manifests/${reference}`),
    getManifest: (repository, reference) => refuse(`${repository}/manifests/${reference}`),
    headBlob: (repository, digest) => refuse(`${repository}/blobs/${digest}`),
    openBlob: (repository, digest) => refuse(`${repository}/blobs/${digest}`),
    listTags: repository => refuse(`${repository}/tags/list`),
    findReferrers: (repository, digest) => refuse(`${repository}/referrers/${digest}`),
  };
}
