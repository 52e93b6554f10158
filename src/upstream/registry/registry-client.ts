// A registry client: pulls from and pushes to one registry over one set of connections, tokens and credentials.
import type { Memory } from '../../memory.ts';
import { RegistryError } from '../../oci/errors.ts';
import { type Authorizer, type AuthorizerOptions, createAuthorizer } from '../auth/authorizer.ts';
import type { Credentials, FindCredentials } from '../auth/credentials.ts';
import type { BreakerChange } from '../limits/breaker.ts';
import { createLimited, createRegistryLimits, type LimitPolicy, type RegistryLimits } from '../limits/limits.ts';
import type { TlsOptions } from '../transport/connector.ts';
import type { ReadDocument } from '../transport/document.ts';
import type { Transport } from '../transport/transport.ts';
import type { Endpoint, Pusher, RegistryAddress } from '../upstream.ts';
import type { Clock } from '../waiting.ts';
import { createHeadSupport } from './head-support.ts';
import { createPusher } from './pusher.ts';
import { createRegistry } from './registry.ts';
import { createNextPages } from './tag-list.ts';

export interface RegistryClient {
  readonly endpoint: Endpoint;
  readonly pusher: Pusher;
  /** Throws UNSUPPORTED where the URL has a path. */
  describe(): RegistryAddress;
  findCredentials(): Promise<Credentials | undefined>;
  /** The same registry as a client of its own sees it. Each has tokens of its own, and a back-off of its own. */
  forClient(credentials: Credentials | undefined): () => Endpoint;
}

interface RegistryClientOptions {
  readonly name: string;
  readonly entry: EndpointEntry;
  readonly policy: LimitPolicy;
  readonly findInDocker: FindCredentials | undefined;
  /** What the configuration has for another host. */
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
/** What an authorizer holds beside its grants. */
const AUTHORIZER_BYTES = 4096;
const HUB_URL = 'https://registry-1.docker.io';

/** Who asks: Veneer or a client. */
interface Who extends Pick<AuthorizerOptions, 'findCredentials'> {
  readonly findAt?: FindCredentials | undefined;
}

export function createRegistryClient(options: RegistryClientOptions): RegistryClient {
  const { name, entry, findInDocker, transports, readDocument, clock, memory } = options;
  const { own, guarded, named } = transports;
  const { tokenRealms = [], redirectHosts = [] } = entry;
  const url = new URL(entry.url ?? (name === HUB ? HUB_URL : `https://${name}`));
  // A mirror in its place is known by its own host, to builders and in Docker's config.json.
  const host = name === HUB && url.origin === HUB_URL ? HUB : url.host;
  const findCredentials = async () => entry.credentials ?? findInDocker?.(host);
  const heads = createHeadSupport(clock, memory);
  const nextPages = createNextPages();
  const rules = { url, tokenRealms };
  const elsewhere = (target: URL) => (redirectHosts.includes(target.host) ? named : guarded);
  const limits = createRegistryLimits({ name, policy: options.policy, clock, onBreaker: options.onBreaker });
  const connect = (limits: RegistryLimits, who: Who) => {
    const authorizer = createAuthorizer({ upstream: name, rules, transports: { own, guarded }, clock, memory, ...who });
    // Of others that redirects lead to.
    const authorizers = memory.openCache<Authorizer>({ weigh: () => AUTHORIZER_BYTES });
    const createAt = ({ origin, host }: URL) =>
      createAuthorizer({
        upstream: `${name} (at ${host})`,
        rules: { url: new URL(origin), tokenRealms },
        transports: { own: elsewhere(new URL(origin)), guarded },
        clock,
        memory,
        // Whoever sends us there chooses what is asked for there: as somebody only where the entry trusts it with that.
        findCredentials: async () => (redirectHosts.includes(host) ? who.findAt?.(host) : undefined),
      });
    const authorizerAt = (target: URL) => {
      if (target.origin === url.origin) return undefined;
      const found = authorizers.get(target.origin) ?? createAt(target);
      authorizers.set(target.origin, found);
      return found;
    };
    const routes = { own, elsewhere, requestLimits: limits.requestLimits, authorizerAt };
    return { name, url, authorizer, transports: routes, readDocument, heads, nextPages };
  };
  const registry = connect(limits, { findCredentials, findAt: options.findElsewhere });
  return {
    endpoint: createLimited(createRegistry(registry), limits),
    forClient(credentials) {
      const own = limits.forClient();
      const who = { findCredentials: async () => credentials };
      return () => createLimited(createRegistry(connect(own, who)), own);
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

/** What the configuration says of one address of a registry. */
export interface EndpointEntry {
  /** Default: https at the upstream's name. Plain http only where it is said here. */
  readonly url?: string | undefined;
  readonly credentials?: Credentials | undefined;
  readonly tls?: TlsOptions | undefined;
  /** Hosts, with their ports, that may get the credentials for a token, at any address and of any domain. */
  readonly tokenRealms?: readonly string[] | undefined;
  /** Hosts, with their ports, that a redirect may lead to although their address is private, and at which an upload may go on. */
  readonly redirectHosts?: readonly string[] | undefined;
}

interface MirrorEntry extends EndpointEntry {
  readonly url: string;
}

/** The policy holds for each of its endpoints by itself. */
export interface UpstreamEntry extends EndpointEntry, LimitPolicy {
  /** Asked before it, in this order. Nothing of its credentials is theirs, and nothing of theirs another's. */
  readonly mirrors?: readonly MirrorEntry[] | undefined;
  /** Whether it is never asked. */
  readonly offline?: boolean | undefined;
  /** Whether its pulls show it the credentials of their clients, and we none of our own. */
  readonly passCredentials?: boolean | undefined;
  /** Globs of the repositories that may be pulled; default: all. */
  readonly allow?: readonly string[] | undefined;
  /** Globs of those that may not, although they are allowed. */
  readonly deny?: readonly string[] | undefined;
}
