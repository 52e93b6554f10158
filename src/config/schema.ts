// The keys of veneer.yaml, their checks and their defaults.
import { resolve } from 'node:path';
import { z } from 'zod';
import { accessSchema } from './access-schema.ts';
import { buildsSchema } from './builds-schema.ts';
import { cacheSchema } from './cache-schema.ts';
import { hostedSchema } from './hosted-schema.ts';
import { nodeSelectors } from './kubernetes-schema.ts';
import { ruleDigestsSchema, rulesSchema } from './rules-schema.ts';
import { eventsSchema, scansSchema } from './services-schema.ts';
import { isRegistryHost, upstreamsSchema } from './upstream-schema.ts';
import {
  duration,
  type Environment,
  hostName,
  httpUrl,
  listenAddress,
  MAX_TIMER_MS,
  rate,
  secret,
  size,
} from './values.ts';

const MAX_HOSTS = 100;
const MAX_WORKERS = 64;
/** With less, every pull reads the disk and parses again; more than V8's heap would crash the process. */
const MIN_MEMORY_BYTES = 8 * 1024 ** 2;
const MAX_MEMORY_BYTES = 2 * 1024 ** 3;

export type Config = z.output<ReturnType<typeof configSchema>>;

export function configSchema(env: Environment) {
  return z
    .strictObject({
      listen: listenAddress().prefault('127.0.0.1:8080'),
      publicUrl: httpUrl()
        .refine(({ pathname }) => pathname === '/', 'must have no path: image names cannot include one')
        .optional(),
      /** Additional host names of this service. */
      hosts: z.array(hostName()).max(MAX_HOSTS).default([]),
      /** Paths of PEM files, which are read again when they change. */
      tls: z
        .strictObject({
          cert: z.string().min(1),
          key: z.string().min(1),
          /** With it only clients with a certificate of this CA are let in. */
          clientCa: z.string().min(1).optional(),
        })
        .optional(),
      trustedProxies: trustedProxiesSchema().prefault({}),
      /** Relative to the working directory at the start; absolute from then on, since child processes run elsewhere. */
      dataDir: z
        .string()
        .min(1)
        .default('.veneer')
        .transform(path => resolve(path)),
      state: stateSchema(env).prefault({}),
      content: contentSchema().prefault({}),
      /** How many processes serve; `auto`: one for each processor. */
      workers: z
        .union(
          [z.literal('auto'), z.int().min(1).max(MAX_WORKERS)],
          `expected auto, or a number from 1 to ${MAX_WORKERS}`,
        )
        .default(1),
      /** Shared by all in-memory caches. */
      memory: size({ min: MIN_MEMORY_BYTES, max: MAX_MEMORY_BYTES }).prefault('64MiB'),
      log: logSchema().prefault({}),
      metrics: metricsSchema().prefault({}),
      /** Whether the web console is served under /console. */
      console: z.boolean().default(true),
      /** The registry for names without one; `none` rejects them. */
      defaultUpstream: z.string().min(1).default('docker.io'),
      openUpstreams: z.boolean().default(true),
      /** Whether upstreams are never contacted. */
      offline: z.boolean().default(false),
      upstreams: upstreamsSchema(env).prefault({}),
      hosted: hostedSchema().prefault({}),
      builds: buildsSchema(env).prefault({}),
      scans: scansSchema().prefault({}),
      access: accessSchema(env).optional(),
      rules: rulesSchema(),
      ruleDigests: ruleDigestsSchema().prefault({}),
      events: eventsSchema(env).prefault({}),
      tokens: tokensSchema().prefault({}),
      /** How many tags may be resolved. */
      pulls: z
        .strictObject({
          rate: z
            .strictObject({ anonymous: rate().prefault('1000/1m'), known: rate().prefault('10000/1m') })
            .prefault({}),
        })
        .prefault({}),
      cache: cacheSchema().prefault({}),
      scrub: scrubSchema().prefault({}),
      attestations: z.enum(['drop', 'keep']).default('drop'),
      limits: limitsSchema().prefault({}),
      layers: z.strictObject({ allowPrivateAddresses: z.boolean().default(false) }).prefault({}),
      shutdownGrace: duration({ maxMs: MAX_TIMER_MS }).prefault('30s'),
      /** For configurations of Wave, which have these keys here. */
      wave: waveSchema().optional(),
    })
    .superRefine(checkPrefixes, { when: fits(prefixesSchema) })
    .superRefine(checkPassThrough, { when: fits(passThroughSchema) })
    .superRefine(checkDefaultUpstream, { when: fits(namesSchema) })
    .superRefine(checkReplicas, { when: fits(replicasSchema) })
    .superRefine(checkWorkers, { when: fits(workersSchema) })
    .superRefine(checkClusters, { when: fits(clustersSchema) })
    .transform(({ shutdownGrace, memory, wave, ...rest }) => ({
      ...rest,
      memoryBytes: memory,
      builds: withNodeSelector(rest.builds, wave?.build.k8s['node-selector']),
      shutdownGraceMs: shutdownGrace,
    }));
}

/** Whether a refinement of several keys has all that it looks at. Compiling a schema only pays off if it is used more than once. */
function fits(schema: z.core.$ZodType) {
  return ({ value }: { readonly value: unknown }) => z.safeParse(schema, value, { jitless: true }).success;
}

const replicasSchema = z.object({
  state: z.object({ postgres: z.object({ isShared: z.boolean() }).optional() }),
  access: z.object({ credentialKeys: z.array(z.string()) }).optional(),
});

function checkReplicas({ state, access }: z.output<typeof replicasSchema>, context: z.RefinementCtx): void {
  if (!state.postgres?.isShared) return;
  // A key that each process made for itself would open no credentials of the others.
  if (access && access.credentialKeys.length === 0) {
    const message = 'with state.postgres.replicas, all replicas need the same keys: set at least one';
    context.addIssue({ code: 'custom', path: ['access', 'credentialKeys'], message });
  }
}

const workersSchema = z.object({
  workers: z.union([z.literal('auto'), z.number()]),
  state: z.object({ postgres: z.object({ isShared: z.boolean() }).optional() }),
});

function checkWorkers({ workers, state }: z.output<typeof workersSchema>, context: z.RefinementCtx): void {
  if (workers === 1 || state.postgres?.isShared !== false) return;
  const message = 'several workers share the database: set state.postgres.replicas, too';
  context.addIssue({ code: 'custom', path: ['workers'], message });
}

function metricsSchema() {
  return z.strictObject({
    enabled: z.boolean().default(true),
    /** Networks that may read the metrics without admin rights. */
    networks: z.array(network()).max(MAX_HOSTS).default([]),
  });
}

function network() {
  return z.union(
    [z.ipv4(), z.ipv6(), z.cidrv4(), z.cidrv6()],
    'expected an address or a network such as 10.0.0.5, 10.0.0.0/8 or fd00::/8',
  );
}

/** Reverse proxies that report the client of a request. */
function trustedProxiesSchema() {
  return z.strictObject({
    addresses: z.array(network()).max(MAX_HOSTS).default([]),
    /** The header that they set. Any other is only a claim of the client. */
    header: z.enum(['X-Forwarded-For', 'Forwarded']).default('X-Forwarded-For'),
  });
}

function waveSchema() {
  const k8s = z.strictObject({ 'node-selector': nodeSelectors() });
  return z.strictObject({ build: z.strictObject({ k8s }) });
}

type Builds = z.output<ReturnType<typeof buildsSchema>>;
type Selectors = z.output<ReturnType<typeof nodeSelectors>>;

/** A backend with its own map keeps that. */
function withNodeSelector(builds: Builds, nodeSelector: Selectors | undefined): Builds {
  const backends = builds.backends.map(one =>
    one.type === 'kubernetes' && nodeSelector ? { ...one, nodeSelector: one.nodeSelector ?? nodeSelector } : one,
  );
  return { ...builds, backends };
}

const clustersSchema = z.object({
  publicUrl: z.unknown().optional(),
  wave: z.unknown().optional(),
  builds: z.object({ backends: z.array(z.looseObject({ type: z.string(), callbackUrl: z.unknown().optional() })) }),
});

function checkClusters(
  { publicUrl, wave, builds: { backends } }: z.infer<typeof clustersSchema>,
  context: z.core.$RefinementCtx,
): void {
  if (wave !== undefined && !backends.some(({ type }) => type === 'kubernetes')) {
    const message = 'its node selectors have no effect: no entry of builds.backends has `type: kubernetes`';
    context.addIssue({ code: 'custom', path: ['wave'], message });
  }
  for (const [at, { type, callbackUrl }] of backends.entries()) {
    if (type !== 'kubernetes' || callbackUrl !== undefined || publicUrl !== undefined) continue;
    const message =
      'required without publicUrl: the address at which pods reach Veneer, such as http://veneer.default.svc:8080';
    context.addIssue({ code: 'custom', path: ['builds', 'backends', at, 'callbackUrl'], message });
  }
}

const prefixesSchema = z.object({
  hosted: z.object({ prefixes: z.array(z.string()) }),
  upstreams: z.record(z.string(), z.unknown()),
});

/** A name must be unambiguous. */
function checkPrefixes(names: z.infer<typeof prefixesSchema>, context: z.core.$RefinementCtx): void {
  const aliases = Object.keys(names.upstreams).map(alias => alias.toLowerCase());
  for (const [at, prefix] of names.hosted.prefixes.entries()) {
    if (!aliases.includes(prefix.split('/', 1)[0] ?? '')) continue;
    context.addIssue({
      code: 'custom',
      path: ['hosted', 'prefixes', at],
      message: `"${prefix}" begins with an entry of upstreams: rename it, or use other prefixes; [] hosts nothing`,
    });
  }
}

const passThroughSchema = z.object({
  access: z.unknown().optional(),
  upstreams: z.record(z.string(), z.looseObject({ passCredentials: z.boolean().optional() })),
});

/** One header cannot carry two logins, and registry clients cannot send another. */
function checkPassThrough(
  { access, upstreams }: z.infer<typeof passThroughSchema>,
  context: z.core.$RefinementCtx,
): void {
  for (const [name, { passCredentials }] of Object.entries(upstreams)) {
    if (!passCredentials || access === undefined) continue;
    const message =
      'with "access", clients log in to Veneer itself, and their credentials are not passed on: remove either';
    context.addIssue({ code: 'custom', path: ['upstreams', name, 'passCredentials'], message });
  }
}

const namesSchema = z.object({ defaultUpstream: z.string(), upstreams: z.record(z.string(), z.unknown()) });

function checkDefaultUpstream(names: z.infer<typeof namesSchema>, context: z.core.$RefinementCtx): void {
  const { defaultUpstream: name, upstreams } = names;
  const aliases = Object.keys(upstreams).map(alias => alias.toLowerCase());
  if (name === 'none' || isRegistryHost(name) || aliases.includes(name.toLowerCase())) return;
  const message = `"${name}" is neither a host nor an entry of upstreams; \`none\` rejects names without a registry`;
  context.addIssue({ code: 'custom', path: ['defaultUpstream'], message });
}

/** Where records are. Absent: in a file of the data directory. */
function stateSchema(env: Environment) {
  const postgres = z
    .strictObject({
      url: secret(env).refine(isPostgresUrl, 'expected a URL such as postgres://veneer@db.example.com:5432/veneer'),
      schema: z
        .string()
        .regex(/^[a-z_][a-z0-9_]{0,47}$/, 'expected lower-case letters, digits and underscores')
        .default('veneer'),
      /** Whether several processes use the schema at the same time. */
      replicas: z.boolean().default(false),
      /** How many connections at most; one more listens. */
      pool: z.int().min(1).max(MAX_CONNECTIONS).default(10),
      tls: z
        .strictObject({
          ca: secret(env).optional(),
          cert: secret(env).optional(),
          key: secret(env).optional(),
        })
        .optional(),
    })
    .transform(({ pool, replicas, ...rest }) => ({ ...rest, maxConnections: pool, isShared: replicas }));
  return z.strictObject({ postgres: postgres.optional() });
}

/** The store of content that cannot be refetched. Absent: the data directory. */
function contentSchema() {
  const s3 = z
    .strictObject({
      /** Default: that of the region at AWS. */
      endpoint: httpUrl()
        .transform(url => url.href)
        .optional(),
      bucket: z
        .string()
        .regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, 'expected 3 to 63 lower-case letters, digits, dots and hyphens'),
      region: z
        .string()
        .regex(/^[a-z0-9-]{1,63}$/, 'expected lower-case letters, digits and hyphens, such as eu-west-1')
        .optional(),
      /** What all keys begin with. */
      prefix: z
        .string()
        .max(MAX_KEY_PREFIX)
        .regex(/^(?:\w[\w.-]*\/)*$/, 'expected a path with a slash at its end and none at its start, such as veneer/')
        .default(''),
      pathStyle: z.boolean().optional(),
      /** Whether it has the content of upstreams, too. */
      upstreams: z.boolean().default(false),
      redirect: redirectSchema().optional(),
    })
    .transform(({ endpoint, region, pathStyle, ...rest }) => ({
      ...{ ...rest, endpoint },
      region: region ?? (endpoint === undefined ? undefined : 'us-east-1'),
      pathStyle: pathStyle ?? endpoint !== undefined,
    }));
  return z.strictObject({ s3: s3.optional() });
}

/** Which clients get blobs from the bucket itself. Absent: none. */
function redirectSchema() {
  return z
    .strictObject({
      networks: z.array(network()).min(1).max(MAX_HOSTS),
      /** Where these clients reach the service; default: where Veneer does. */
      endpoint: httpUrl()
        .transform(url => url.href)
        .optional(),
      minSize: size().prefault('16MiB'),
      /** How long an address is valid. */
      expires: duration({ minMs: 10_000, maxMs: 3_600_000 }).prefault('5m'),
    })
    .transform(({ minSize, expires, ...rest }) => ({ ...rest, minBytes: minSize, expiresMs: expires }));
}

/** Keys have at most 1024 bytes. */
const MAX_KEY_PREFIX = 500;

const MAX_CONNECTIONS = 500;

function isPostgresUrl(text: string): boolean {
  return URL.canParse(text) && ['postgres:', 'postgresql:'].includes(new URL(text).protocol);
}

function logSchema() {
  return z.strictObject({
    level: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']).default('info'),
    /** Default: pretty on a terminal, else json. */
    format: z.enum(['json', 'pretty']).optional(),
  });
}

function tokensSchema() {
  return z
    .strictObject({
      ttl: duration({ minMs: 1000 }).prefault('36h'),
      /** For tokens whose request names a workflow. */
      workflow: z
        .strictObject({
          /** Longer than Nextflow keeps an answer (30 minutes), and than its tasks wait in the queue of a cluster. */
          idle: duration({ minMs: 1000 }).prefault('36h'),
          max: duration({ minMs: 1000 }).prefault('48h'),
        })
        .transform(({ idle, max }) => ({ idleMs: idle, maxMs: max }))
        .prefault({}),
      rate: z.strictObject({ anonymous: rate().prefault('250/10m'), known: rate().prefault('2500/10m') }).prefault({}),
      /** For layers that are sent with requests. */
      layers: z
        .strictObject({ maxSize: size().prefault('10GiB'), maxSizePerCaller: size().prefault('1GiB') })
        .transform(({ maxSize, maxSizePerCaller }) => ({ maxBytes: maxSize, maxBytesPerAccount: maxSizePerCaller }))
        .prefault({}),
    })
    .transform(({ ttl, ...rest }) => ({ ...rest, ttlMs: ttl }));
}

/** How stored content is read in the background to find damage. */
function scrubSchema() {
  return z
    .strictObject({
      /** Undefined: never. */
      every: z.union([z.literal('never').transform(() => undefined), duration({ minMs: 60_000 })]).prefault('7d'),
      /** Per second. */
      rate: size().prefault('32MiB'),
      /** Whether what is in the bucket of content.s3 is read as well. */
      bucket: z.boolean().default(false),
    })
    .transform(({ every, rate, bucket }) => ({ everyMs: every, bytesPerSecond: rate, isOfBucket: bucket }));
}

function limitsSchema() {
  return z
    .strictObject({
      ...connectionFields(),
      requestBody: size().prefault('20MiB'),
      /** Per second, for a blob. */
      upstreamRate: size().prefault('1KiB'),
      /** In characters: a layer may be a data: URL. */
      layerLocation: z.int().positive().default(14_000_000),
      containerIncludes: z.int().nonnegative().default(10),
      unpackedLayer: size().prefault('4GiB'),
      unpackedRequest: size().prefault('8GiB'),
      requestTime: duration({ minMs: 1000, maxMs: MAX_TIMER_MS }).prefault('10m'),
      /** How many times larger than its compressed bytes a layer may unpack to. */
      unpackRatio: z.number().positive().default(200),
      /** How large a layer of an augmented image may unpack, and how many entries it may have. */
      indexedLayer: size().prefault('32GiB'),
      indexedEntries: z.int().positive().default(1_000_000),
      linkWait: duration({ maxMs: MAX_TIMER_MS }).prefault('45s'),
      /**
       * How long a status request waits for the end of a build, and how many may wait. Clients time out after 20 s or later.
       */
      statusWait: duration({ maxMs: 15_000 }).prefault('5s'),
      statusWaits: z.int().nonnegative().default(1000),
    })
    .transform(({ requestBody, unpackedLayer, unpackedRequest, requestTime, indexedLayer, linkWait, ...rest }) => {
      const {
        requestHead,
        keepAlive,
        requestBodyRate,
        requestBodyGrace,
        unreadResponse,
        idleConnection,
        upstreamRate,
        statusWait,
        ...others
      } = rest;
      return {
        ...others,
        requestHeadMs: requestHead,
        upstreamRateBytes: upstreamRate,
        keepAliveMs: keepAlive,
        requestBodyRateBytes: requestBodyRate,
        requestBodyGraceMs: requestBodyGrace,
        unreadResponseMs: unreadResponse,
        idleConnectionMs: idleConnection,
        requestBodyBytes: requestBody,
        unpackedLayerBytes: unpackedLayer,
        indexedLayerBytes: indexedLayer,
        linkWaitMs: linkWait,
        statusWaitMs: statusWait,
        unpackedRequestBytes: unpackedRequest,
        requestTimeMs: requestTime,
      };
    });
}

/** Limits on what a connected client may consume. */
function connectionFields() {
  const wait = (text: string) => duration({ minMs: 1000, maxMs: MAX_TIMER_MS }).prefault(text);
  return {
    connections: z.int().positive().default(4096),
    /** Connections from this machine are not limited per address. */
    connectionsPerAddress: z.int().positive().default(512),
    requestHead: wait('30s'),
    keepAlive: wait('65s'),
    /** Per second. */
    requestBodyRate: size().prefault('1KiB'),
    requestBodyGrace: wait('20s'),
    unreadResponse: wait('2m'),
    /** How long a connection may be silent. */
    idleConnection: wait('10m'),
  };
}
