// Callers authenticated by an OpenID Connect issuer: its JSON web tokens name a user and groups. Its keys are cached, and refetched as they
// rotate.

import { createLocalJWKSet, decodeJwt, errors, type JWTPayload, type JWTVerifyGetKey, jwtVerify } from 'jose';
import { LRUCache } from 'lru-cache';
import { allowInsecureRequests, customFetch, discovery, None } from 'openid-client';
import { z } from 'zod';
import { RegistryError } from '../oci/errors.ts';
import { createCollection } from '../state/collection.ts';
import type { RecordStore } from '../state/store.ts';
import { OIDC_PREFIX, type OidcOptions } from './access.ts';
import { isLoopback } from './address.ts';

interface OidcUser {
  /** With OIDC_PREFIX. */
  readonly name: string;
  readonly groups: readonly string[];
}

interface OidcIssuer {
  /** Whether a secret looks like a token of this issuer: if so, it is ours to accept or reject. */
  recognizes(secret: string): boolean;
  /** Throws UNAUTHORIZED for an invalid token, and UNAVAILABLE while there are no keys to verify it with. */
  verify(token: string): Promise<OidcUser>;
  /** Fetches the keys in the background, so that a fault is reported at startup. */
  warm(): void;
}

interface OidcDeps {
  readonly options: OidcOptions;
  readonly now: () => Date;
  /** Called when keys cannot be fetched, once until they can again. */
  readonly onFault: (reason: string) => void;
}

const MAX_TOKEN_CHARACTERS = 16 * 1024;
const MAX_DOCUMENT_BYTES = 512 * 1024;
const FETCH_TIMEOUT_MS = 10_000;
/** Older keys are refetched, and remain in use meanwhile. */
const KEYS_FRESH_MS = 10 * 60_000;
/** Keys that could not be refetched for this long are no longer trusted. */
const KEYS_MAX_AGE_MS = 24 * 3_600_000;
/** The minimum interval between fetches that a request waits for: tokens with invented key ids must not cause more. */
const FETCH_PAUSE_MS = 10_000;
const ALGORITHMS = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'Ed25519',
];
const JWT = /^[\w-]+\.[\w-]+\.[\w-]+$/;

const MAX_NAME = 255;
const MAX_GROUPS = 1000;
// Names end up in messages and records, in one line.
const name = z
  .string()
  .min(1)
  .max(MAX_NAME)
  .regex(/^\P{Cc}+$/u);
const groupsSchema = z.union([name.transform(group => [group]), z.array(name).max(MAX_GROUPS)]);

const jwksSchema = z.object({ keys: z.array(z.looseObject({ kty: z.string() })).max(100) });

interface Keys {
  readonly find: JWTVerifyGetKey;
  readonly fetchedAtMs: number;
}

export function createOidcIssuer({ options, now, onFault }: OidcDeps): OidcIssuer {
  const { issuer, audience, clockSkewMs } = options;
  let keys: Keys | undefined;
  let triedAtMs = Number.NEGATIVE_INFINITY;
  let failure: Error | undefined;
  let pending: Promise<void> | undefined;

  /** Never rejects: `failure` says why there are no newer keys. Concurrent callers share one fetch. */
  function refresh(): Promise<void> {
    pending ??= fetchKeys(options)
      .then(
        find => {
          keys = { find, fetchedAtMs: now().getTime() };
          failure = undefined;
        },
        (error: unknown) => {
          const reason = describeFailure(error);
          if (!failure) onFault(reason);
          failure = new Error(reason, { cause: error });
        },
      )
      .finally(() => {
        triedAtMs = now().getTime();
        pending = undefined;
      });
    return pending;
  }

  const mayFetch = () => pending !== undefined || now().getTime() - triedAtMs >= FETCH_PAUSE_MS;

  async function getKeys(): Promise<Keys> {
    const ageMs = keys ? now().getTime() - keys.fetchedAtMs : Number.POSITIVE_INFINITY;
    if (ageMs >= KEYS_FRESH_MS && mayFetch()) {
      const refreshed = refresh();
      if (ageMs >= KEYS_MAX_AGE_MS) await refreshed;
    }
    if (keys && now().getTime() - keys.fetchedAtMs < KEYS_MAX_AGE_MS) return keys;
    throw new RegistryError(
      'UNAVAILABLE',
      `the keys of the OIDC issuer ${issuer} (access.oidc.issuer) cannot be fetched: ${failure?.message ?? 'not yet'}`,
      { retryAfterSeconds: FETCH_PAUSE_MS / 1000 },
    );
  }

  async function verifySignature(token: string): Promise<JWTPayload> {
    const checks = {
      ...{ issuer, audience: [...audience], algorithms: ALGORITHMS },
      clockTolerance: Math.floor(clockSkewMs / 1000),
      requiredClaims: ['exp'],
    };
    const check = async ({ find }: Keys) => (await jwtVerify(token, find, { ...checks, currentDate: now() })).payload;
    try {
      return await check(await getKeys());
    } catch (error) {
      // The issuer may have a new key.
      if (!(error instanceof errors.JWKSNoMatchingKey) || !mayFetch()) throw error;
      await refresh();
      return check(await getKeys());
    }
  }

  return {
    recognizes: secret => issuerOf(secret) === issuer,
    async verify(token) {
      try {
        return toUser(await verifySignature(token), options);
      } catch (error) {
        if (!(error instanceof errors.JOSEError)) throw error;
        throw refused(describeRefusal(error, options));
      }
    },
    warm: () => void refresh(),
  };
}

/** The issuer claimed by a token; not verified. */
function issuerOf(secret: string): string | undefined {
  if (secret.length > MAX_TOKEN_CHARACTERS || !JWT.test(secret)) return undefined;
  try {
    return decodeJwt(secret).iss;
  } catch {
    return undefined;
  }
}

/** Both documents each time: an issuer may move its keys. */
async function fetchKeys({ issuer, audience: [clientId = ''] }: OidcOptions): Promise<JWTVerifyGetKey> {
  const url = new URL(issuer);
  const isPlain = url.protocol === 'http:' && isLoopback(url.hostname);
  const found = await discovery(url, clientId, undefined, None(), {
    [customFetch]: address => fetchBounded(address),
    execute: isPlain ? [allowInsecureRequests] : [],
    timeout: FETCH_TIMEOUT_MS / 1000,
  });
  const { jwks_uri: location = '' } = found.serverMetadata();
  const address = URL.parse(location);
  if (address?.protocol !== 'https:' && !(isPlain && address && isLoopback(address.hostname)))
    throw new Error('jwks_uri of its configuration is no https URL');
  const response = await fetchBounded(address.href);
  if (response.status !== 200) throw new Error(`${address.host} answered ${response.status} for jwks_uri`);
  return createLocalJWKSet(jwksSchema.parse(await response.json()));
}

/** The response with its body, read whole up to a limit. */
async function fetchBounded(address: string): Promise<Response> {
  const signal = AbortSignal.timeout(FETCH_TIMEOUT_MS);
  const response = await fetch(address, { signal, redirect: 'error', headers: { Accept: 'application/json' } });
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body ?? []) {
    size += chunk.byteLength;
    if (size > MAX_DOCUMENT_BYTES) throw new Error(`the answer is larger than ${MAX_DOCUMENT_BYTES} bytes`);
    chunks.push(chunk);
  }
  return new Response(Buffer.concat(chunks), { status: response.status, headers: response.headers });
}

function toUser(payload: JWTPayload, { usernameClaim, groupsClaim }: OidcOptions): OidcUser {
  const user = name.safeParse(payload[usernameClaim]);
  if (!user.success) throw refused(`it has no name of at most ${MAX_NAME} characters in its claim "${usernameClaim}"`);
  const groups = groupsSchema.safeParse(payload[groupsClaim] ?? []);
  if (!groups.success) throw refused(`its claim "${groupsClaim}" is no list of at most ${MAX_GROUPS} names`);
  return { name: `${OIDC_PREFIX}${user.data}`, groups: groups.data };
}

function refused(reason: string): RegistryError {
  return new RegistryError('UNAUTHORIZED', `the token of the OIDC issuer is refused: ${reason}`);
}

/** In our own words: the library's message may quote the token. */
function describeRefusal(error: errors.JOSEError, { audience }: OidcOptions): string {
  if (error instanceof errors.JWTExpired) return 'it has expired';
  if (error instanceof errors.JWTClaimValidationFailed) {
    const remedy = error.claim === 'aud' ? `: expected ${audience.join(' or ')} (access.oidc.audience)` : '';
    return `its claim "${error.claim}" ${error.reason === 'missing' ? 'is missing' : 'is not acceptable'}${remedy}`;
  }
  if (error instanceof errors.JWKSNoMatchingKey) return 'the issuer has no such key';
  return 'its signature is not valid';
}

/** The failure, without anything that the issuer sent. */
function describeFailure(error: unknown): string {
  if (error instanceof z.ZodError) return 'its keys are no JSON Web Key Set';
  const { cause, message } = error instanceof Error ? error : { cause: undefined, message: String(error) };
  const code = cause instanceof Error && 'code' in cause ? ` (${String(cause.code)})` : '';
  return `${message.slice(0, 255)}${code}`;
}

/** Users who have presented a token, with their groups: tokens issued to them carry the rights that they have now. */
interface OidcUsers {
  /** Durable when it resolves. */
  see(user: OidcUser): Promise<void>;
  /** The groups of the most recent token; undefined for a user who has presented none for a long time. */
  findGroups(name: string): Promise<readonly string[] | undefined>;
}

const SEEN_MS = 30 * 86_400_000;
/** Clients send a token with every request: it is recorded again only after this interval, or when the groups have changed. */
const REWRITE_AFTER_MS = 3_600_000;
const MAX_SEEN = 10_000;

const seenSchema = z.object({ groups: z.array(z.string()).readonly() });

export function createOidcUsers({ records, now }: { records: RecordStore; now: () => Date }): OidcUsers {
  const collection = createCollection({ store: records, name: 'oidc-user', schema: seenSchema });
  const seen = new LRUCache<string, { readonly groups: string; readonly atMs: number }>({
    maxSize: MAX_SEEN,
    sizeCalculation: () => 1,
  });
  return {
    async see({ name, groups }) {
      const atMs = now().getTime();
      const text = JSON.stringify(groups);
      const last = seen.get(name);
      if (last?.groups === text && atMs - last.atMs < REWRITE_AFTER_MS) return;
      await collection.put(name, { groups }, { expiresAt: new Date(atMs + SEEN_MS) });
      seen.set(name, { groups: text, atMs });
    },
    findGroups: async name => (await collection.find(name))?.groups,
  };
}
