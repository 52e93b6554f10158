// Answers to an upstream's challenges: tokens and basic credentials, kept while they last, fetched once for all who wait.
import { LRUCache } from 'lru-cache';
import { type Dispatcher, request } from 'undici';
import { z } from 'zod';
import { RegistryError } from '../oci/errors.ts';
import { type Challenge, findChallenge, parseRealm } from './challenge.ts';
import type { Credentials } from './credentials.ts';
import { type Attempt, badAnswer, connectionFailure, readLimited, responseFailure } from './failure.ts';

/** The Authorization headers of one upstream, by scope. */
export interface Authorizer {
  /** The header to send; undefined before the first challenge. */
  find(scope: string): string | undefined;
  /**
   * The header that answers a 401, another than `refused`. The work is shared and goes on when `signal` aborts the wait.
   * Throws UNAUTHORIZED where we have no answer, 502 for a realm that must not have our credentials.
   */
  answer(scope: string, header: string, options: AnswerOptions): Promise<string>;
  /** Drops what is kept for `scope`: the upstream no longer takes it. */
  forget(scope: string): void;
}

export interface AnswerOptions {
  readonly refused: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface AuthorizerOptions {
  readonly upstream: string;
  readonly url: URL;
  readonly dialer: Dispatcher;
  readonly findCredentials: () => Promise<Credentials | undefined>;
}

interface Grant {
  readonly authorization: string;
  readonly ttlMs: number;
}

const MAX_TOKEN_BYTES = 64 * 1024;
const MAX_SCOPES = 10_000;
const DEFAULT_TTL_SECONDS = 60;
/** Basic credentials from a helper expire without saying when. */
const BASIC_TTL_MS = 300_000;

const tokenSchema = z.object({
  token: z.string().optional(),
  access_token: z.string().optional(),
  expires_in: z.number().positive().optional().catch(undefined),
});

export function createAuthorizer(options: AuthorizerOptions): Authorizer {
  const grants = new LRUCache<string, string>({ max: MAX_SCOPES });
  const pending = new Map<string, Promise<string>>();

  async function renew(scope: string, header: string): Promise<string> {
    const { authorization, ttlMs } = await answerChallenge(scope, header, options);
    grants.set(scope, authorization, { ttl: ttlMs });
    return authorization;
  }

  return {
    find: scope => grants.get(scope),
    forget: scope => {
      grants.delete(scope);
    },
    answer(scope, header, { refused, signal }) {
      const kept = grants.get(scope);
      if (kept && kept !== refused) return Promise.resolve(kept);
      const running = pending.get(scope) ?? renew(scope, header).finally(() => pending.delete(scope));
      pending.set(scope, running);
      return signal ? untilAborted(running, signal) : running;
    },
  };
}

async function answerChallenge(scope: string, header: string, options: AuthorizerOptions): Promise<Grant> {
  const challenge = findChallenge(header);
  const credentials = await options.findCredentials();
  if (challenge?.scheme === 'bearer') return fetchToken(challenge, { ...options, scope, credentials });
  if (challenge && credentials) return { authorization: basic(credentials), ttlMs: BASIC_TTL_MS };
  throw new RegistryError('UNAUTHORIZED', `${options.upstream}: it wants credentials, and none are configured for it`);
}

interface TokenRequest extends AuthorizerOptions {
  readonly scope: string;
  readonly credentials: Credentials | undefined;
}

async function fetchToken({ parameters }: Challenge, options: TokenRequest): Promise<Grant> {
  const { upstream, credentials, dialer } = options;
  const attempt: Attempt = { upstream, action: 'token request', missing: 'UNAUTHORIZED' };
  const realm = parseRealm(parameters.get('realm') ?? '', options.url, attempt);
  const service = parameters.get('service');
  if (service) realm.searchParams.set('service', service);
  realm.searchParams.set('scope', parameters.get('scope') || options.scope);
  try {
    const headers = credentials ? { authorization: basic(credentials) } : {};
    const response = await request(realm, { dispatcher: dialer, headers });
    if (response.statusCode >= 400) throw await responseFailure(response, attempt);
    return parseToken(await readToken(response, attempt), attempt);
  } catch (cause) {
    throw connectionFailure(cause, attempt);
  }
}

async function readToken(response: Dispatcher.ResponseData, attempt: Attempt): Promise<unknown> {
  if (response.statusCode !== 200) {
    await response.body.dump();
    throw badAnswer(attempt, `status ${response.statusCode} instead of a token`);
  }
  const bytes = await readLimited(response.body, MAX_TOKEN_BYTES);
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    // The cause would quote the answer, and with it the token.
    throw badAnswer(attempt, 'the answer is not JSON');
  }
}

function parseToken(answer: unknown, attempt: Attempt): Grant {
  const { data } = tokenSchema.safeParse(answer);
  const token = data?.token || data?.access_token;
  if (!token || !/^[\x21-\x7e]+$/.test(token)) throw badAnswer(attempt, 'the answer has no token');
  const seconds = data.expires_in ?? DEFAULT_TTL_SECONDS;
  // A token that ends on its way to the upstream costs one more request: a tenth of its life is slack.
  return { authorization: `Bearer ${token}`, ttlMs: Math.max(1, Math.floor(seconds * 900)) };
}

function basic({ username, password }: Credentials): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}

function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const leave = () => reject(signal.reason);
    if (signal.aborted) leave();
    signal.addEventListener('abort', leave, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', leave));
  });
}
