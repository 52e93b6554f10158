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
      repositories: z.array(glob()).min(1).optional(),
      allow: z.array(z.enum(['pull', 'push', 'delete', 'build', 'admin'])).min(1),
    })
    .refine(
      ({ users, anyone }) => (users === undefined) !== (anyone === undefined),
      'needs either users or anyone: true',
    )
    .superRefine(checkAdmin)
    .transform(({ repositories = [], ...rest }) => ({ ...rest, repositories }));
}

interface WrittenGrant {
  readonly anyone?: boolean | undefined;
  readonly repositories?: readonly string[] | undefined;
  readonly allow: readonly string[];
}

/** Nobody should read a right to administer into a grant for repositories, nor one to repositories into this. */
function checkAdmin({ anyone, repositories, allow }: WrittenGrant, context: z.core.$RefinementCtx): void {
  const fault = (key: string, message: string) => context.addIssue({ code: 'custom', path: [key], message });
  if (!allow.includes('admin')) {
    if (repositories === undefined) fault('repositories', 'is needed: patterns of names, such as [local/**]');
    return;
  }
  const own = 'write a grant of its own for it: { users: [<name>], allow: [admin] }';
  if (repositories !== undefined || allow.some(each => each !== 'admin'))
    fault(
      'allow',
      `admin is a right to all of Veneer, not to repositories as pull, push, delete and build are: ${own}`,
    );
  if (anyone) fault('anyone', `admin is not for everybody: ${own}`);
}
