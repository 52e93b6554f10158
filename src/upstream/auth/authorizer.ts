// Answers to an upstream's challenges: tokens and basic credentials, kept while they last, fetched once for all who wait.
import type { Memory } from '../../memory.ts';
import { RegistryError } from '../../oci/errors.ts';
import { type Clock, untilAborted } from '../waiting.ts';
import { basic, type Credentials } from './credentials.ts';
import { fetchToken, findChallenge, type Grant, type TokenServerOptions } from './token-server.ts';

/** The Authorization headers of one upstream, by scope. */
export interface Authorizer {
  /** The header to send; undefined before the first challenge. */
  find(scope: string): string | undefined;
  /**
   * The header that answers a 401, another than `refused`. The work is shared and goes on when `signal` aborts the wait.
   * Throws UNAUTHORIZED where we have no answer, 502 for a realm that must not have our credentials.
   */
  answer(
    scope: string,
    header: string,
    options: { readonly refused: string | undefined; readonly signal?: AbortSignal | undefined },
  ): Promise<string>;
  /** Drops what is kept for `scope`: the upstream no longer takes it. */
  forget(scope: string): void;
}

export interface AuthorizerOptions extends TokenServerOptions {
  readonly findCredentials: () => Promise<Credentials | undefined>;
  readonly clock: Clock;
  readonly memory: Memory;
}

interface Kept {
  readonly authorization: string;
  readonly until: number;
}

/** Basic credentials from a helper expire without saying when. */
const BASIC_TTL_MS = 300_000;

export function createAuthorizer(options: AuthorizerOptions): Authorizer {
  const { clock, memory } = options;
  const grants = memory.openCache<Kept>();
  const pending = new Map<string, Promise<string>>();

  function find(scope: string): string | undefined {
    const kept = grants.get(scope);
    return kept && clock.now().getTime() < kept.until ? kept.authorization : undefined;
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
      const kept = find(scope);
      if (kept && kept !== refused) return Promise.resolve(kept);
      const running = pending.get(scope) ?? renew(scope, header).finally(() => pending.delete(scope));
      pending.set(scope, running);
      return signal ? untilAborted(running, signal) : running;
    },
  };
}

function tellWant(isKnown: boolean, hasCredentials: boolean): string {
  if (!isKnown)
    return 'it wants other credentials than a Bearer token or a user name with its password, and Veneer knows no others';
  if (!hasCredentials) return 'it wants credentials, and there are none for it';
  return 'it wants a user name with its password, and what there is for it is a token';
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
    `${options.upstream}: ${tellWant(challenge !== undefined, credentials !== undefined)}`,
  );
}
