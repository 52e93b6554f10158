// A registry client: pulls from and pushes to one registry over one set of connections, tokens and credentials.
import type { Memory } from '../../memory.ts';
import { RegistryError } from '../../oci/errors.ts';
import { type Authorizer, type AuthorizerOptions, createAuthorizer } from '../auth/authorizer.ts';
import type { Credentials, FindCredentials, PasswordCredentials } from '../auth/credentials.ts';
import type { BreakerChange } from '../limits/breaker.ts';
import { createLimited, createRegistryLimits, type LimitPolicy, type RegistryLimits } from '../limits/limits.ts';
import { ForbiddenAddress, type TlsOptions } from '../transport/connector.ts';
import { type ReadDocument, read } from '../transport/request.ts';
import { discard } from '../transport/response.ts';
import type { Transport } from '../transport/transport.ts';
import type { Endpoint, Pusher, RegistryAddress } from '../upstream.ts';
import type { Clock } from '../waiting.ts';
import { apiBase } from './call.ts';
import { createPusher } from './pusher.ts';
import { createHeadSupport, createRegistry } from './registry.ts';
import { createNextPages } from './tag-list.ts';

export interface RegistryClient {
  readonly endpoint: Endpoint;
  readonly pusher: Pusher;
  /** Throws UNSUPPORTED where the URL has a path. */
  describe(): RegistryAddress;
  findCredentials(): Promise<Credentials | undefined>;
  /**
   * Whether the registry accepts the credentials, which are not stored. Throws RegistryError where it gives no clear answer, or the
   * signal's reason.
   */
  checkCredentials(credentials: PasswordCredentials, signal: AbortSignal): Promise<boolean>;
  /** The same registry for one of its clients, with separate tokens and back-off. */
  forClient(credentials: Credentials | undefined): () => Endpoint;
}

interface RegistryClientOptions {
  readonly name: string;
  /** Where the configuration has the entry; undefined where messages should not name it. */
  readonly configKey?: string | undefined;
  readonly entry: EndpointEntry;
  readonly policy: LimitPolicy;
  readonly findInDocker: FindCredentials | undefined;
  /** The configuration of another host. */
  readonly findElsewhere?: FindCredentials | undefined;
  readonly transports: {
    readonly own: Transport;
    readonly guarded: Transport;
    /** To the entry's redirectHosts. */
    readonly named: Transport;
  };
  readonly readDocument: ReadDocument;
  readonly clock: Clock;
  readonly memory: Memory;
  readonly onBreaker?: ((change: BreakerChange) => void) | undefined;
}

export const HUB = 'docker.io';
/** The memory of an authorizer besides its grants. */
const AUTHORIZER_BYTES = 4096;
const HUB_URL = 'https://registry-1.docker.io';

/** The identity: Veneer's or a client's. */
interface Who extends Pick<AuthorizerOptions, 'findCredentials' | 'keys'> {
  readonly findAt?: FindCredentials | undefined;
}

export function createRegistryClient(options: RegistryClientOptions): RegistryClient {
  const { name, configKey, entry, findInDocker, transports, readDocument, clock, memory } = options;
  const { own, guarded, named } = transports;
  const { tokenRealms = [], redirectHosts = [] } = entry;
  const url = new URL(entry.url ?? (name === HUB ? HUB_URL : `https://${name}`));
  // A mirror used instead is known by its own host, to builders and in Docker's config.json.
  const host = name === HUB && url.origin === HUB_URL ? HUB : url.host;
  const findCredentials = async () => entry.credentials ?? findInDocker?.(host);
  const heads = createHeadSupport(clock, memory);
  const nextPages = createNextPages();
  const rules = { url, tokenRealms };
  const elsewhere = (target: URL) => (redirectHosts.includes(target.host) ? named : guarded);
  const limits = createRegistryLimits({ name, policy: options.policy, clock, onBreaker: options.onBreaker });
  const connect = (limits: RegistryLimits, who: Who) => {
    const authorizer = createAuthorizer({ upstream: name, rules, transports: { own, guarded }, clock, memory, ...who });
    // For hosts that redirects point to.
    const authorizers = memory.openCache<Authorizer>({ weigh: () => AUTHORIZER_BYTES });
    const createAt = ({ origin, host }: URL) =>
      createAuthorizer({
        upstream: `${name} (at ${host})`,
        rules: { url: new URL(origin), tokenRealms },
        transports: { own: elsewhere(new URL(origin)), guarded },
        clock,
        memory,
        // A redirect chooses the URL: we only authenticate there if the entry trusts that host.
        findCredentials: async () => (redirectHosts.includes(host) ? who.findAt?.(host) : undefined),
      });
    const authorizerAt = (target: URL) => {
      if (target.origin === url.origin) return undefined;
      const found = authorizers.get(target.origin) ?? createAt(target);
      authorizers.set(target.origin, found);
      return found;
    };
    const routes = { own, elsewhere, requestLimits: limits.requestLimits, authorizerAt };
    return { name, keys: who.keys, url, authorizer, transports: routes, readDocument, heads, nextPages };
  };
  const keys = keysBelow(configKey);
  const registry = connect(limits, { keys, findCredentials, findAt: options.findElsewhere });
  return {
    endpoint: createLimited(createRegistry(registry), limits),
    forClient(credentials) {
      const own = limits.forClient();
      const who = { keys: keys && { url: keys.url }, findCredentials: async () => credentials };
      return () => createLimited(createRegistry(connect(own, who)), own);
    },
    async checkCredentials(credentials, signal) {
      const { authorizer, transports } = connect(limits.forClient(), { findCredentials: async () => credentials });
      const attempt = { upstream: name, action: 'login', missing: 'UNAUTHORIZED' } as const;
      const auth = { authorizer, scope: '' };
      try {
        const address = new URL(apiBase(url));
        discard(await read(address, { method: 'GET', signal, attempt, transports, auth }));
        return true;
      } catch (error) {
        if (!(error instanceof RegistryError) || error.cause instanceof ForbiddenAddress) throw error;
        if (error.status === 401 || error.status === 403) return false;
        throw error;
      }
    },
    pusher: createPusher({ ...registry, redirectHosts }),
    findCredentials,
    describe() {
      if (url.pathname !== '/') {
        const reason = 'its url has a path, and a builder can only name a host';
        throw new RegistryError('UNSUPPORTED', `the registry "${name}" cannot be given to a builder: ${reason}`);
      }
      return { host, isInsecure: url.protocol === 'http:' || entry.tls?.insecure === true };
    },
  };
}

function keysBelow(configKey: string | undefined) {
  return configKey === undefined ? undefined : { url: `${configKey}.url`, credentials: `${configKey}.credentials` };
}

/** The configuration of one endpoint of a registry. */
export interface EndpointEntry {
  /** Default: https at the upstream's name. Plain http only if configured. */
  readonly url?: string | undefined;
  readonly credentials?: Credentials | undefined;
  readonly tls?: TlsOptions | undefined;
  /** Hosts, with their ports, that may receive the credentials for a token, at any address and of any domain. */
  readonly tokenRealms?: readonly string[] | undefined;
  /** Hosts, with their ports, that redirects may point to although their address is private, and that may continue an upload. */
  readonly redirectHosts?: readonly string[] | undefined;
}

interface MirrorEntry extends EndpointEntry {
  readonly url: string;
}

/** The policy applies to each of its endpoints separately. */
export interface UpstreamEntry extends EndpointEntry, LimitPolicy {
  /** Tried before it, in this order. They never share credentials with it or with each other. */
  readonly mirrors?: readonly MirrorEntry[] | undefined;
  /** Whether it is never contacted. */
  readonly offline?: boolean | undefined;
  /** Whether it receives the credentials of pulling clients, in place of our own. */
  readonly passCredentials?: boolean | undefined;
  /** Globs of the repositories that may be pulled; default: all. */
  readonly allow?: readonly string[] | undefined;
  /** Globs of excluded repositories, which take precedence. */
  readonly deny?: readonly string[] | undefined;
}
