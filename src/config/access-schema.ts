// The key `access`: who may do what.
import { z } from 'zod';
import { duration, type Environment, glob, secret } from './values.ts';

export function accessSchema(env: Environment) {
  return z
    .strictObject({
      htpasswd: z.string().min(1).optional(),
      tokenTtl: duration({ minMs: 60_000, maxMs: 86_400_000 }).prefault('5m'),
      /** A private key, Ed25519 or P-256, as PEM or JWK. */
      signingKey: secret(env).optional(),
      grants: z.array(grantSchema()).default([]),
    })
    .transform(({ tokenTtl, ...rest }) => ({ ...rest, tokenTtlMs: tokenTtl }));
}

function grantSchema() {
  return z
    .strictObject({
      users: z.array(z.string().min(1)).min(1).optional(),
      anyone: z.literal(true, 'expected true').optional(),
      /** Patterns, which the room `access` checks. */
      repositories: z.array(glob()).min(1),
      allow: z.array(z.enum(['pull', 'push', 'delete'])).min(1),
    })
    .refine(
      ({ users, anyone }) => (users === undefined) !== (anyone === undefined),
      'needs either users or anyone: true',
    );
}
