// One upstream as seen by each of its clients, by the credentials that they present. Content is keyed by the id of its scope, so that no
// other scope sees it.
import { AsyncLocalStorage } from 'node:async_hooks';
import { createHmac } from 'node:crypto';
import type { Memory } from '../../memory.ts';
import { RegistryError } from '../../oci/errors.ts';
import { createLimited } from '../limits/limits.ts';
import { ForbiddenAddress } from '../transport/connector.ts';
import type { Endpoint, Scope, Upstream } from '../upstream.ts';
import type { Clock } from '../waiting.ts';
import type { PasswordCredentials } from './credentials.ts';

export interface ScopePolicy {
  /** Secret, and the same after a restart: without it, credentials cannot be recognised from stored keys. */
  readonly key: Uint8Array;
  /** How long access that a client obtained is valid without asking again. 0: for the current request only. */
  readonly lifeMs: number;
}

/** An evicted scope is forgotten with its credentials and tokens once no request uses it; connections are shared by all. */
const CLIENT_BYTES = 16 * 1024;

interface Client {
  readonly openEndpoint: () => Endpoint;
  readonly latest: { readonly scope: Scope; readonly upstream: Upstream } | undefined;
}

export function createScopes(
  options: ScopePolicy & {
    /** The upstream. */
    readonly name: string;
    readonly clock: Pick<Clock, 'now'>;
    readonly memory: Memory;
    readonly forClient: (credentials: PasswordCredentials | undefined) => () => Endpoint;
    readonly toUpstream: (endpoint: Endpoint, scope: Scope) => Upstream;
  },
): (credentials: PasswordCredentials | undefined) => Upstream {
  const { name, key, lifeMs, clock, memory, forClient, toUpstream } = options;
  const clients = memory.openCache<Client>({ weigh: () => CLIENT_BYTES });
  const sign = (text: string) => createHmac('sha256', key).update(text).digest();

  /**
   * Periods end at fixed times, whether or not the scope was forgotten meanwhile: otherwise content of one could be trusted in the next.
   * Each client's end at different moments, so that not all are revalidated at once.
   */
  function scopeOf(client: Buffer): Scope {
    const span = Math.max(1, lifeMs);
    const offset = client.readUInt32BE() % span;
    const index = Math.floor((clock.now().getTime() + offset) / span);
    const id = sign(`${client.toString('base64url')} ${span} ${index}`).toString('base64url');
    return { id, endsAt: new Date((index + 1) * span - offset), client: client.toString('base64url') };
  }

  return credentials => {
    const shown = credentials && [credentials.username, credentials.password];
    const client = sign(JSON.stringify([name, shown ?? null]));
    const clientId = client.toString('base64url');
    const { openEndpoint, latest } = clients.get(clientId) ?? {
      openEndpoint: forClient(credentials),
      latest: undefined,
    };
    const scope = scopeOf(client);
    if (latest?.scope.id === scope.id) return latest.upstream;
    const endpoint = openEndpoint();
    const upstream = toUpstream(credentials ? endpoint : createAnonymous(endpoint), scope);
    clients.set(clientId, { openEndpoint, latest: { scope, upstream } });
    return upstream;
  };
}

/** Asks clients without credentials to present some, even where the registry itself answers 403 to unknown clients. */
function createAnonymous(endpoint: Endpoint): Endpoint {
  return createLimited(endpoint, {
    run: (_kind, work) => work().catch(requireCredentials),
    open: work => work().catch(requireCredentials),
  });
}

function requireCredentials(error: unknown): never {
  if (!(error instanceof RegistryError) || error.cause instanceof ForbiddenAddress) throw error;
  if (error.status !== 401 && error.status !== 403) throw error;
  const reason =
    'the request had no credentials: this upstream receives those of the pulling clients, and Veneer has none of its own for it';
  throw new RegistryError('UNAUTHORIZED', `${error.message}: ${reason} (passCredentials)`, { cause: error });
}

/** The caller on whose behalf work is done: its stored credentials are used for the registries that they are for. */
export interface ActingCredentials {
  /** By the names of registries. */
  run<T>(credentials: ReadonlyMap<string, PasswordCredentials>, work: () => T): T;
  find(registry: string): PasswordCredentials | undefined;
}

export function createActingCredentials(): ActingCredentials {
  const storage = new AsyncLocalStorage<ReadonlyMap<string, PasswordCredentials>>();
  return {
    run: (credentials, work) => storage.run(credentials, work),
    find: registry => storage.getStore()?.get(registry),
  };
}
