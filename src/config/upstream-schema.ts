// The entries of `upstreams`: registries by host, or by an alias with a URL.
import { z } from 'zod';
import { duration, type Environment, glob, host, httpUrl, MAX_TIMER_MS, parseHost, rate, secret } from './values.ts';

const ALIAS = /^[a-z0-9]+(?:(?:_{1,2}|-+)[a-z0-9]+)*$/i;
/** The name is used for tokens in `/v2/<name>/…`: an entry with it could never be reached. */
const RESERVED: readonly string[] = ['wt'];
const MAX_HOSTS = 64;
const MAX_MIRRORS = 16;
const MAX_PATTERNS = 1000;

/** Every entry that cannot be pulled from is an error. */
export function upstreamsSchema(env: Environment) {
  return z.record(z.string().min(1), entrySchema(env)).superRefine(
    (entries, context) => {
      for (const [name, entry] of Object.entries(entries)) {
        const fault = findFault(name, Object.hasOwn(entry, 'url'));
        if (fault) context.addIssue({ code: 'custom', ...fault });
        for (const issue of findPassThroughFaults(name, entry)) context.addIssue({ code: 'custom', ...issue });
      }
    },
    // Also if there are other errors, so that all are listed at once.
    { when: ({ value }) => z.record(z.string(), z.looseObject({})).safeParse(value, { jitless: true }).success },
  );
}

/** Whether the name is a registry's host rather than an alias: it contains a dot or a port, or is localhost. */
export function isRegistryHost(name: string): boolean {
  return /[.:]|^localhost$/i.test(name) && parseHost(name) !== undefined;
}

function entrySchema(env: Environment) {
  return z.strictObject({
    url: httpUrl().optional(),
    ...locationShape(env),
    mirrors: z
      .array(z.strictObject({ url: httpUrl(), ...locationShape(env) }))
      .max(MAX_MIRRORS)
      .default([]),
    /** Whether pulls present the credentials of their clients to it, and none of ours. */
    passCredentials: z.boolean().default(false),
    allow: patterns().default(['**']),
    deny: patterns().default([]),
    offline: z.boolean().default(false),
    /** Whether engines that use Veneer as its mirror must not fall back to the registry itself. */
    strict: z.boolean().default(false),
    concurrency: z.int().positive().max(10_000).optional(),
    queue: z.int().nonnegative().max(100_000).default(1000),
    rate: rate().optional(),
    breaker: breakerSchema().optional(),
  });
}

/** Credentials and TLS of a registry at a URL. */
function locationShape(env: Environment) {
  return {
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
      .refine(({ cert, key }) => (cert === undefined) === (key === undefined), 'cert and key must be set together')
      .optional(),
    tokenRealms: z.array(host()).max(MAX_HOSTS).default([]),
    redirectHosts: z.array(host()).max(MAX_HOSTS).default([]),
  };
}

/** Globs of repositories of one upstream, without its name. */
function patterns() {
  return z.array(glob().min(1)).max(MAX_PATTERNS);
}

/** After how many consecutive failures calls are paused, and for how long. */
export function breakerSchema() {
  return z
    .strictObject({
      /** 0: never. */
      failures: z.int().nonnegative().max(1000).default(5),
      pause: duration({ minMs: 1000, maxMs: MAX_TIMER_MS }).prefault('10s'),
    })
    .transform(({ failures, pause }) => ({ failures, pauseMs: pause }));
}

const passThroughSchema = z.object({
  passCredentials: z.literal(true),
  credentials: z.unknown().optional(),
  mirrors: z.array(z.unknown()).optional(),
});

/** What Veneer may read with its own credentials would be served to clients that may not. */
function findPassThroughFaults(
  name: string,
  entry: unknown,
): readonly { readonly path: string[]; readonly message: string }[] {
  const { credentials, mirrors = [] } = passThroughSchema.safeParse(entry).data ?? {};
  const path = [name, 'passCredentials'];
  return [
    ...(credentials === undefined ? [] : [{ path, message: PASS_THROUGH_FAULTS.credentials }]),
    ...(mirrors.length === 0 ? [] : [{ path, message: PASS_THROUGH_FAULTS.mirrors }]),
  ];
}

const PASS_THROUGH_FAULTS = {
  credentials: 'pulls use the credentials of their clients, never those of the entry: remove either',
  mirrors:
    'credentials of clients are only sent to the registry, while content of its mirrors is open to everyone: remove either',
} as const;

function findFault(name: string, hasUrl: boolean): { readonly path: string[]; readonly message: string } | undefined {
  if (RESERVED.includes(name.toLowerCase()))
    return { path: [name], message: 'is reserved for tokens; use another alias' };
  if (isRegistryHost(name)) return undefined;
  if (!ALIAS.test(name)) {
    const message = 'is neither a host nor an alias: an alias has letters and digits, with - or _ between them';
    return { path: [name], message };
  }
  if (hasUrl) return undefined;
  const message = `"${name}" is not a host, so it needs the url of its registry, such as https://registry.example`;
  return { path: [name, 'url'], message };
}
