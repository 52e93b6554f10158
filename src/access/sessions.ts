// Sessions of people in a browser. The cookie names who has logged in, sealed with a key of the service; nothing is stored, and on each request the
// caller has the rights of today.
import { createHash, hkdfSync, randomUUID } from 'node:crypto';
import { decodeJwt, EncryptJWT, errors, jwtDecrypt } from 'jose';
import { LRUCache } from 'lru-cache';
import { z } from 'zod';
import { type Caller, type Sessions, subjectOf } from './access.ts';
import type { PasswordCredentials } from './authorization.ts';
import type { SigningKey } from './keys.ts';

interface SessionsDeps {
  readonly key: SigningKey;
  readonly login: (credentials: PasswordCredentials, address: string) => Promise<Caller>;
  /** Who has this name today; anonymous where there is nobody. */
  readonly findCaller: (subject: string, address: string) => Promise<Caller>;
  /** The hash of a user's password; undefined for a name that is in no file of users. */
  readonly findHash: (user: string) => Promise<string | undefined>;
  readonly now: () => Date;
}

const SESSION_MS = 12 * 3_600_000;
const AUDIENCE = 'veneer console';
/** Further ones that were ended end by themselves. */
const MAX_ENDED = 10_000;

const claimsSchema = z.object({ sub: z.string().min(1), jti: z.string(), proof: z.string(), exp: z.number() });

export function createSessions({ key, login, findCaller, findHash, now }: SessionsDeps): Sessions {
  const sealing = deriveKey(key);
  const ended = new LRUCache<string, true>({ maxSize: MAX_ENDED, sizeCalculation: () => 1 });

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
      return { cookie, expiresAt: new Date(until * 1000) };
    },
    async find(cookie, address) {
      const claims = await unseal(cookie);
      if (!claims || ended.has(claims.jti)) return undefined;
      if ((await proofOf(claims.sub)) !== claims.proof) return undefined;
      const caller = await findCaller(claims.sub, address);
      return subjectOf(caller) === claims.sub ? caller : undefined;
    },
    async end(cookie) {
      const claims = await unseal(cookie);
      if (claims) ended.set(claims.jti, true);
    },
  };
}

/** In epoch seconds: a session lives no longer than the token of an issuer that opened it. */
function endOfToken(password: string): number {
  try {
    return decodeJwt(password).exp ?? Number.POSITIVE_INFINITY;
  } catch {
    // A password, or an access token, whose end is looked at each time.
    return Number.POSITIVE_INFINITY;
  }
}

/** The signing key never opens anything itself: another service of the same key reads the same sessions, and no bearer token is one. */
function deriveKey({ privateKey }: SigningKey): Uint8Array {
  const secret = privateKey.export({ format: 'der', type: 'pkcs8' });
  return new Uint8Array(hkdfSync('sha256', secret, '', 'veneer: sessions', 32));
}
