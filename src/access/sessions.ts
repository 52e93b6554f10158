// Browser sessions. The cookie contains the user, encrypted with a key of the service. Only sessions that were ended are stored, until they
// would have expired. Each request has the rights that the user has at that time.
import { createHash, hkdfSync, randomUUID } from 'node:crypto';
import { decodeJwt, EncryptJWT, errors, jwtDecrypt } from 'jose';
import { z } from 'zod';
import { createCollection } from '../state/collection.ts';
import type { RecordStore } from '../state/store.ts';
import { type Caller, type Sessions, subjectOf } from './access.ts';
import type { PasswordCredentials } from './authorization.ts';
import type { SigningKey } from './keys.ts';

interface SessionsDeps {
  readonly key: SigningKey;
  readonly records: RecordStore;
  readonly login: (credentials: PasswordCredentials, address: string) => Promise<Caller>;
  /** The caller that currently has this name; anonymous if there is none. */
  readonly findCaller: (subject: string, address: string) => Promise<Caller>;
  /** The hash of a user's password; undefined for a name that is not in the file of users. */
  readonly findHash: (user: string) => Promise<string | undefined>;
  readonly now: () => Date;
}

const SESSION_MS = 12 * 3_600_000;
const AUDIENCE = 'veneer console';

const claimsSchema = z.object({ sub: z.string().min(1), jti: z.string(), proof: z.string(), exp: z.number() });

export function createSessions({ key, records, login, findCaller, findHash, now }: SessionsDeps): Sessions {
  const sealing = deriveKey(key);
  const ended = createCollection({ store: records, name: 'session-end', schema: z.object({}) });

  /** Changes with the password. */
  async function proofOf(subject: string): Promise<string> {
    return createHash('sha256')
      .update((await findHash(subject)) ?? '')
      .digest('base64url');
  }

  async function unseal(cookie: string): Promise<z.infer<typeof claimsSchema> | undefined> {
    try {
      const { payload } = await jwtDecrypt(cookie, sealing, { audience: AUDIENCE, currentDate: now() });
      return claimsSchema.parse(payload);
    } catch (error) {
      if (error instanceof errors.JOSEError || error instanceof z.ZodError) return undefined;
      throw error;
    }
  }

  return {
    async open(credentials, address) {
      const subject = subjectOf(await login(credentials, address));
      const at = Math.floor(now().getTime() / 1000);
      const until = Math.min(at + SESSION_MS / 1000, endOfToken(credentials.password));
      const cookie = await new EncryptJWT({ proof: await proofOf(subject) })
        .setProtectedHeader({ alg: 'dir', enc: 'A256GCM' })
        .setSubject(subject)
        .setAudience(AUDIENCE)
        .setJti(randomUUID())
        .setIssuedAt(at)
        .setExpirationTime(until)
        .encrypt(sealing);
      return { cookie, subject, expiresAt: new Date(until * 1000) };
    },
    async find(cookie, address) {
      const claims = await unseal(cookie);
      if (!claims || (await ended.has(claims.jti))) return undefined;
      if ((await proofOf(claims.sub)) !== claims.proof) return undefined;
      const caller = await findCaller(claims.sub, address);
      return subjectOf(caller) === claims.sub ? caller : undefined;
    },
    async end(cookie) {
      const claims = await unseal(cookie);
      if (claims) await ended.put(claims.jti, {}, { expiresAt: new Date(claims.exp * 1000) });
    },
  };
}

/** In epoch seconds: a session lives no longer than the token of an issuer that opened it. */
function endOfToken(password: string): number {
  try {
    return decodeJwt(password).exp ?? Number.POSITIVE_INFINITY;
  } catch {
    // A password, or an access token, whose expiry is checked on each request.
    return Number.POSITIVE_INFINITY;
  }
}

/** Derived, so that no bearer token can serve as a session. Services with the same signing key accept the same sessions. */
function deriveKey({ privateKey }: SigningKey): Uint8Array {
  const secret = privateKey.export({ format: 'der', type: 'pkcs8' });
  return new Uint8Array(hkdfSync('sha256', secret, '', 'veneer: sessions', 32));
}
