// The keys of veneer.yaml, their checks and their defaults.
import { z } from 'zod';
import { duration, type Environment, httpUrl, listenAddress, secret, size } from './values.ts';

export type Config = z.output<ReturnType<typeof configSchema>>;

/** One entry of `upstreams`. Without a url, the registry is at the host that is the entry's name. */
export type UpstreamConfig = Config['upstreams'][string];

/** Timers of Node overflow past this, and fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export function configSchema(env: Environment) {
  return z
    .strictObject({
      listen: listenAddress().prefault('127.0.0.1:8080'),
      publicUrl: httpUrl().optional(),
      /** Relative to the working directory. */
      dataDir: z.string().min(1).default('.veneer'),
      log: logSchema().prefault({}),
      /** The registry of names whose first component is none; `none` refuses them. */
      defaultUpstream: z.string().min(1).default('docker.io'),
      openUpstreams: z.boolean().default(true),
      upstreams: z.record(z.string().min(1), upstreamSchema(env)).default({}),
      tokens: tokensSchema().prefault({}),
      cache: cacheSchema().prefault({}),
      attestations: z.enum(['drop', 'keep']).default('drop'),
      limits: limitsSchema().prefault({}),
      layers: z.strictObject({ allowPrivateAddresses: z.boolean().default(false) }).prefault({}),
      shutdownGrace: duration({ maxMs: MAX_TIMER_MS }).prefault('30s'),
    })
    .transform(({ shutdownGrace, ...rest }) => ({ ...rest, shutdownGraceMs: shutdownGrace }));
}

function logSchema() {
  return z.strictObject({
    level: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']).default('info'),
    /** Absent: pretty on a terminal, else json. */
    format: z.enum(['json', 'pretty']).optional(),
  });
}

function upstreamSchema(env: Environment) {
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
  });
}

function tokensSchema() {
  return z.strictObject({ ttl: duration({ minMs: 1000 }).prefault('36h') }).transform(({ ttl }) => ({ ttlMs: ttl }));
}

function cacheSchema() {
  const stale = z
    .strictObject({ maxAge: duration().prefault('7d') })
    .transform(({ maxAge }) => ({ maxAgeMs: maxAge }))
    .prefault({});
  return z
    .strictObject({ tagFreshness: duration().prefault('5m'), stale })
    .transform(({ tagFreshness, ...rest }) => ({ ...rest, tagFreshnessMs: tagFreshness }));
}

function limitsSchema() {
  return z
    .strictObject({
      requestBody: size().prefault('20MiB'),
      /** In characters: a layer may be in a data: URL. */
      layerLocation: z.int().positive().default(14_000_000),
      containerIncludes: z.int().nonnegative().default(10),
      unpackedLayer: size().prefault('4GiB'),
      /** How many times larger than its packed bytes a layer may unpack. */
      unpackRatio: z.number().positive().default(200),
    })
    .transform(({ requestBody, unpackedLayer, ...rest }) => ({
      ...rest,
      requestBodyBytes: requestBody,
      unpackedLayerBytes: unpackedLayer,
    }));
}
