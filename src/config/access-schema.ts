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
      oidc: oidcSchema().optional(),
      credentialKeys: z.array(secret(env)).max(10).default([]),
      grants: z.array(grantSchema()).default([]),
    })
    .transform(({ tokenTtl, ...rest }) => ({ ...rest, tokenTtlMs: tokenTtl }));
}

const MAX_NAMES = 1000;
const LOOPBACK = /^(?:localhost|127\.[\d.]+|\[::1\])$/;

function oidcSchema() {
  const claim = (name: string) => z.string().min(1).max(255).default(name);
  const audience = z.string().min(1).max(1024);
  return z
    .strictObject({
      /** The issuer as named in its tokens. */
      issuer: z
        .string()
        .refine(isIssuer, 'expected an https URL without query and fragment, equal to iss in the tokens'),
      audience: z.union([audience.transform(one => [one]), z.array(audience).min(1).max(100)]),
      usernameClaim: claim('sub'),
      groupsClaim: claim('groups'),
      clockSkew: duration({ maxMs: 300_000 }).prefault('30s'),
    })
    .transform(({ clockSkew, ...rest }) => ({ ...rest, clockSkewMs: clockSkew }));
}

/** Plain http is only accepted for an issuer on this machine. */
function isIssuer(text: string): boolean {
  const url = URL.parse(text);
  if (!url || url.search || url.hash || url.username || url.password) return false;
  return url.protocol === 'https:' || (url.protocol === 'http:' && LOOPBACK.test(url.hostname));
}

function grantSchema() {
  return z
    .strictObject({
      users: z.array(z.string().min(1)).min(1).optional(),
      groups: z.array(z.string().min(1)).min(1).max(MAX_NAMES).optional(),
      /** In CIDR notation, which the room `access` checks. */
      networks: z.array(z.string().min(1)).min(1).max(MAX_NAMES).optional(),
      anyone: z.literal(true, 'expected true').optional(),
      /** Patterns, which the room `access` checks. */
      repositories: z.array(glob()).min(1).optional(),
      allow: z.array(z.enum(['pull', 'push', 'delete', 'build', 'admin'])).min(1),
    })
    .refine(
      ({ users, groups, networks, anyone }) =>
        [users, groups, networks, anyone].filter(grantee => grantee !== undefined).length === 1,
      'needs one of users, groups, networks and anyone: true',
    )
    .superRefine(checkAdmin)
    .transform(({ repositories = [], ...rest }) => ({ ...rest, repositories }));
}

interface WrittenGrant {
  readonly networks?: readonly string[] | undefined;
  readonly anyone?: boolean | undefined;
  readonly repositories?: readonly string[] | undefined;
  readonly allow: readonly string[];
}

/** A grant for repositories must not look like one to administer, nor the other way round. */
function checkAdmin({ anyone, networks, repositories, allow }: WrittenGrant, context: z.core.$RefinementCtx): void {
  const fault = (key: string, message: string) => context.addIssue({ code: 'custom', path: [key], message });
  if (!allow.includes('admin')) {
    if (repositories === undefined) fault('repositories', 'is required: patterns of names, such as [local/**]');
    return;
  }
  const own = 'use a separate grant: { users: [<name>], allow: [admin] }';
  if (repositories !== undefined || allow.some(each => each !== 'admin'))
    fault('allow', `admin applies to all of Veneer, not to repositories like pull, push, delete and build: ${own}`);
  if (anyone) fault('anyone', `admin cannot be granted to anyone: ${own}`);
  if (networks) fault('networks', `admin requires callers to authenticate: ${own}`);
}
