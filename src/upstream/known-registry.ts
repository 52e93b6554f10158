// One registry with all that we can do to it, over one set of connections, tokens and credentials.
import type { Memory } from '../memory.ts';
import { RegistryError } from '../oci/errors.ts';
import { type Authorizer, type AuthorizerOptions, createAuthorizer } from './authorizer.ts';
import type { BreakerChange } from './breaker.ts';
import type { Clock } from './clock.ts';
import type { Credentials, FindCredentials } from './credentials.ts';
import type { Dialer } from './dialer.ts';
import { createGate, type Gate, type GatePolicy } from './gate.ts';
import { createGated } from './gated.ts';
import { createHeads } from './heads.ts';
import type { PlaceEntry } from './place-entry.ts';
import type { Pusher } from './pusher.ts';
import type { ReadDocument } from './read-document.ts';
import { createRegistry } from './registry.ts';
import { createPusher } from './registry-pusher.ts';
import { createNextPages } from './tag-list.ts';
import type { Place, RegistryAddress } from './upstream.ts';

export interface KnownRegistry {
  readonly place: Place;
  readonly pusher: Pusher;
  /** Throws UNSUPPORTED where the URL has a path. */
  describe(): RegistryAddress;
  findCredentials(): Promise<Credentials | undefined>;
  /** The same registry as a client of its own sees it. Each place has tokens of its own; what the registry limits is the client. */
  forClient(credentials: Credentials | undefined): () => Place;
}

interface KnownRegistryOptions {
  readonly name: string;
  readonly entry: PlaceEntry;
  readonly policy: GatePolicy;
  readonly findInDocker: FindCredentials | undefined;
  /** What the configuration has for another host. */
  readonly findElsewhere?: FindCredentials | undefined;
  readonly dialers: {
    readonly own: Dialer;
    readonly guarded: Dialer;
    /** To the entry's redirectHosts. */
    readonly named: Dialer;
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

export function createKnownRegistry(options: KnownRegistryOptions): KnownRegistry {
  const { name, entry, findInDocker, dialers, readDocument, clock, memory } = options;
  const { own, guarded, named } = dialers;
  const { tokenRealms = [], redirectHosts = [] } = entry;
  const url = new URL(entry.url ?? (name === HUB ? HUB_URL : `https://${name}`));
  // A mirror in its place is known by its own host, to builders and in Docker's config.json.
  const host = name === HUB && url.origin === HUB_URL ? HUB : url.host;
  const findCredentials = async () => entry.credentials ?? findInDocker?.(host);
  const heads = createHeads(clock, memory);
  const nextPages = createNextPages();
  const rules = { url, tokenRealms };
  const elsewhere = (target: URL) => (redirectHosts.includes(target.host) ? named : guarded);
  const gate = createGate({ name, policy: options.policy, clock, onBreaker: options.onBreaker });
  const connect = (way: Gate, who: Who) => {
    const authorizer = createAuthorizer({ upstream: name, rules, dialers: { own, guarded }, clock, memory, ...who });
    // Of others that redirects lead to.
    const authorizers = memory.openCache<Authorizer>({ weigh: () => AUTHORIZER_BYTES });
    const createAt = ({ origin, host }: URL) =>
      createAuthorizer({
        upstream: `${name} (at ${host})`,
        rules: { url: new URL(origin), tokenRealms },
        dialers: { own: elsewhere(new URL(origin)), guarded },
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
    const routes = { own, elsewhere, pace: way.pace, authorizerAt };
    return { name, url, authorizer, dialers: routes, readDocument, heads, nextPages };
  };
  const registry = connect(gate, { findCredentials, findAt: options.findElsewhere });
  return {
    place: createGated(createRegistry(registry), gate),
    forClient(credentials) {
      const way = gate.forAnother();
      const who = { findCredentials: async () => credentials };
      return () => createGated(createRegistry(connect(way, who)), way);
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
