// Bearer tokens: signed, short-lived grants. The distribution project's "Token Authentication Implementation".
import { createHash } from 'node:crypto';
import { errors, jwtVerify, SignJWT } from 'jose';
import { z } from 'zod';
import type { Memory } from '../memory.ts';
import { RegistryError } from '../oci/errors.ts';
import type { BearerCaller, BearerToken } from './access.ts';
import { SERVICE } from './authorization.ts';
import type { SigningKey } from './keys.ts';
import type { RepositoryAccess } from './right.ts';
import { verbs } from './right.ts';

type BearerClaims = Omit<BearerCaller, 'kind'>;

export interface BearerTokens {
  issue(claims: BearerClaims): Promise<BearerToken>;
  /** Throws UNAUTHORIZED for a token that is not ours, was modified, or has expired. */
  verify(token: string): Promise<BearerClaims>;
}

const ISSUER = 'veneer';

const accessSchema = z.array(
  z.object({ type: z.literal('repository'), name: z.string(), actions: z.array(z.enum([...verbs, 'build'])) }),
);

const payloadSchema = z.object({
  ...{ sub: z.string(), exp: z.number(), access: accessSchema, refused: accessSchema },
  catalog: z.literal(true).optional(),
});

interface Verified extends BearerClaims {
  readonly expiresAt: Date;
}

export function createBearerTokens({
  key,
  ttlMs,
  memory,
  now,
}: {
  readonly key: SigningKey;
  readonly ttlMs: number;
  readonly memory: Memory;
  readonly now: () => Date;
}): BearerTokens {
  // Clients send one token with every request for minutes: its signature is verified once.
  const verified = memory.openCache<Verified>();

  async function verifySignature(token: string): Promise<Verified> {
    const options = {
      algorithms: [key.algorithm],
      issuer: ISSUER,
      audience: SERVICE,
      requiredClaims: ['exp'],
      currentDate: now(),
    };
    const { payload } = await jwtVerify(token, key.publicKey, options).catch(refuse);
    const { sub, exp, access, refused, catalog } = payloadSchema.parse(payload);
    return {
      subject: sub,
      access: access.map(fromClaim),
      refused: refused.map(fromClaim),
      ...(catalog && { listsCatalog: true }),
      expiresAt: new Date(exp * 1000),
    };
  }

  return {
    async issue({ subject, access, refused, listsCatalog }) {
      const issuedAt = Math.floor(now().getTime() / 1000);
      const expiresInSeconds = Math.floor(ttlMs / 1000);
      const token = await new SignJWT({
        ...{ access: access.map(toClaim), refused: refused.map(toClaim) },
        ...(listsCatalog && { catalog: true }),
      })
        .setProtectedHeader({ alg: key.algorithm, typ: 'JWT' })
        .setIssuer(ISSUER)
        .setAudience(SERVICE)
        .setSubject(subject)
        .setIssuedAt(issuedAt)
        .setExpirationTime(issuedAt + expiresInSeconds)
        .sign(key.privateKey);
      return { token, issuedAt: new Date(issuedAt * 1000), expiresInSeconds };
    },
    async verify(token) {
      const id = createHash('sha256').update(token).digest('base64');
      const known = verified.get(id) ?? (await verifySignature(token));
      if (known.expiresAt <= now()) throw new RegistryError('UNAUTHORIZED', 'the bearer token has expired');
      verified.set(id, known);
      return known;
    },
  };
}

function toClaim({ repository, verbs: actions }: RepositoryAccess) {
  return { type: 'repository', name: repository, actions };
}

function fromClaim({ name, actions }: z.infer<typeof accessSchema>[number]): RepositoryAccess {
  return { repository: name, verbs: actions };
}

function refuse(error: unknown): never {
  if (!(error instanceof errors.JOSEError)) throw error;
  const reason = error instanceof errors.JWTExpired ? 'has expired' : 'is not one of ours';
  throw new RegistryError('UNAUTHORIZED', `the bearer token ${reason}`);
}
