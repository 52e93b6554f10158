// Answers an upstream's challenges with tokens and basic credentials, cached while they are valid, and fetched once for all waiters.
import type { Memory } from '../../memory.ts';
import { RegistryError } from '../../oci/errors.ts';
import { type Clock, untilAborted } from '../waiting.ts';
import { basic, type Credentials } from './credentials.ts';
import { fetchToken, findChallenge, type Grant, type TokenServerOptions } from './token-server.ts';

/** The Authorization headers for one upstream, by scope. */
export interface Authorizer {
  /** The header to send; undefined before the first challenge. */
  find(scope: string): string | undefined;
  /**
   * The header that answers a 401, different from `refused`. The work is shared and continues when `signal` aborts the wait. Throws
   * UNAUTHORIZED where we have no answer, 502 for a realm that must not receive our credentials.
   */
  answer(
    scope: string,
    header: string,
    options: { readonly refused: string | undefined; readonly signal?: AbortSignal | undefined },
  ): Promise<string>;
  /** Drops the cached header for `scope`: the upstream no longer accepts it. */
  forget(scope: string): void;
}

export interface AuthorizerOptions extends TokenServerOptions {
  readonly findCredentials: () => Promise<Credentials | undefined>;
  readonly clock: Clock;
  readonly memory: Memory;
}

interface CachedAuthorization {
  readonly authorization: string;
  readonly until: number;
}

/** Basic credentials from a helper expire without notice. */
const BASIC_TTL_MS = 300_000;

export function createAuthorizer(options: AuthorizerOptions): Authorizer {
  const { clock, memory } = options;
  const grants = memory.openCache<CachedAuthorization>();
  const pending = new Map<string, Promise<string>>();

  function find(scope: string): string | undefined {
    const cached = grants.get(scope);
    return cached && clock.now().getTime() < cached.until ? cached.authorization : undefined;
  }

  async function renew(scope: string, header: string): Promise<string> {
    const { authorization, ttlMs } = await answerChallenge(scope, header, options);
    grants.set(scope, { authorization, until: clock.now().getTime() + ttlMs });
    return authorization;
  }

  return {
    find,
    forget: scope => {
      grants.delete(scope);
    },
    answer(scope, header, { refused, signal }) {
      const cached = find(scope);
      if (cached && cached !== refused) return Promise.resolve(cached);
      const running = pending.get(scope) ?? renew(scope, header).finally(() => pending.delete(scope));
      pending.set(scope, running);
      return signal ? untilAborted(running, signal) : running;
    },
  };
}

function describeMissingCredentials(isKnown: boolean, hasCredentials: boolean, key: string | undefined): string {
  if (!isKnown)
    return 'it requires a kind of credentials that Veneer does not support: only Bearer tokens and Basic are';
  if (!hasCredentials) return `it requires credentials, and none are configured for it${key ? `: set ${key}` : ''}`;
  return 'it requires a user name and password, but only a token is configured for it';
}

async function answerChallenge(scope: string, header: string, options: AuthorizerOptions): Promise<Grant> {
  const challenge = findChallenge(header);
  const credentials = await options.findCredentials();
  if (challenge?.scheme === 'bearer') return fetchToken(challenge, { credentials, scope }, options);
  if (challenge && credentials && 'password' in credentials) {
    return { authorization: basic(credentials), ttlMs: BASIC_TTL_MS };
  }
  throw new RegistryError(
    'UNAUTHORIZED',
    `${options.upstream}: ${describeMissingCredentials(challenge !== undefined, credentials !== undefined, options.keys?.credentials)}`,
  );
}
