// The entries of `upstreams`: registries by their host, or by an alias that says where they are.
import { z } from 'zod';
import { type Environment, host, httpUrl, parseHost, secret } from './values.ts';

const ALIAS = /^[a-z0-9]+(?:(?:_{1,2}|-+)[a-z0-9]+)*$/i;
/** What `/v2/<name>/…` has for tokens: an entry of this name would never be reached. */
const RESERVED: readonly string[] = ['wt'];
const MAX_HOSTS = 64;

/** Every entry that could not be pulled from is a fault. */
export function upstreamsSchema(env: Environment) {
  return z.record(z.string().min(1), entrySchema(env)).superRefine(
    (entries, context) => {
      for (const [name, entry] of Object.entries(entries)) {
        const fault = findFault(name, Object.hasOwn(entry, 'url'));
        if (fault) context.addIssue({ code: 'custom', ...fault });
      }
    },
    // Also beside other faults, so that all are listed at once.
    { when: ({ value }) => z.record(z.string(), z.looseObject({})).safeParse(value).success },
  );
}

/** Whether the name is a registry's host rather than an alias: it has a dot or a port, or is localhost. */
export function isRegistryHost(name: string): boolean {
  return /[.:]|^localhost$/i.test(name) && parseHost(name) !== undefined;
}

function entrySchema(env: Environment) {
  return z.strictObject({
    url: httpUrl().optional(),
    credentials: z.strictObject({ username: secret(env), password: secret(env) }).optional(),
    tls: z
      .strictObject({
        /** PEM. */
        ca: secret(env).optional(),
        cert: secret(env).optional(),
        key: secret(env).optional(),
        /** Whether any certificate of the upstream is accepted. */
        insecure: z.boolean().default(false),
      })
      .refine(({ cert, key }) => (cert === undefined) === (key === undefined), 'cert and key need each other')
      .optional(),
    tokenRealms: z.array(host()).max(MAX_HOSTS).default([]),
    redirectHosts: z.array(host()).max(MAX_HOSTS).default([]),
  });
}

function findFault(name: string, hasUrl: boolean): { readonly path: string[]; readonly message: string } | undefined {
  if (RESERVED.includes(name.toLowerCase())) return { path: [name], message: 'is kept for tokens; take another alias' };
  if (isRegistryHost(name)) return undefined;
  if (!ALIAS.test(name)) {
    const message = 'is no host, and no alias: an alias has letters and digits, with - or _ between them';
    return { path: [name], message };
  }
  if (hasUrl) return undefined;
  const message = `"${name}" is no host, so it needs the url of its registry, such as https://registry.example`;
  return { path: [name, 'url'], message };
}
