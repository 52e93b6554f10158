// The key `builds`: what builds missing images, where results go, and how many builds run at a time.
import { resolve } from 'node:path';
import { z } from 'zod';
import { formatPath } from './faults.ts';
import { clusterOf, kubernetesFields } from './kubernetes-schema.ts';
import { isMapping } from './shape.ts';
import { commandLine, duration, type Environment, host, MAX_TIMER_MS, platform, rate, secret, size } from './values.ts';

const REPOSITORY = /^[A-Za-z0-9.:_-]+(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)+$/;
const ID = /^[A-Za-z0-9][\w.-]{0,63}$/;
const NETWORKS = ['default', 'none', 'host'] as const;

export function buildsSchema(env: Environment) {
  return z
    .strictObject({
      /** In order of preference. */
      backends: z
        .array(backendSchema())
        .min(1)
        .prefault(['auto'])
        .refine(all => new Set(all.map(nameOf)).size === all.length, 'two backends have the same name'),
      repository: repository().default('local/builds'),
      cacheRepository: repository().optional(),
      /** For requests that name no platform. */
      platforms: z.array(platform()).min(1).prefault(['linux/amd64']),
      /** How builders reach Veneer; default: derived from `publicUrl` or `listen`. */
      registryHost: host().optional(),
      timeout: duration({ minMs: 1000, maxMs: MAX_TIMER_MS }).prefault('15m'),
      concurrency: z.int().positive().max(1000).default(4),
      queue: z
        .strictObject({
          max: z.int().nonnegative().default(200),
          maxPerCaller: z.int().positive().default(50),
        })
        .prefault({}),
      hold: z
        .strictObject({
          token: duration({ maxMs: MAX_TIMER_MS }).prefault('15m'),
          pull: duration({ maxMs: MAX_TIMER_MS }).prefault('4m'),
        })
        .transform(({ token, pull }) => ({ tokenMs: token, pullMs: pull }))
        .prefault({}),
      retries: z.int().nonnegative().max(20).default(2),
      keep: duration({ minMs: 60_000 }).prefault('30d'),
      failureMemory: duration().prefault('1m'),
      maxLog: size().prefault('16MiB'),
      rate: z.strictObject({ anonymous: rate().prefault('25/24h'), known: rate().prefault('250/1h') }).prefault({}),
      secrets: z.record(id(), buildSecret(env)).default({}),
      /** Paths of agent sockets or keys. */
      ssh: z.record(id(), z.string().min(1)).default({}),
      requests: requestsSchema().prefault({}),
      limits: limitsSchema().prefault({}),
      sif: sifSchema().prefault({}),
      recipes: recipesSchema(),
    })
    .superRefine(checkNames)
    .transform(({ timeout, keep, failureMemory, maxLog, ...rest }) => ({
      ...rest,
      timeoutMs: timeout,
      keepMs: keep,
      failureMemoryMs: failureMemory,
      maxLogBytes: maxLog,
    }));
}

/** BuildKit's limit. */
const MAX_SECRET_BYTES = 500 * 1024;

function buildSecret(env: Environment) {
  return secret(env).refine(value => Buffer.byteLength(value) <= MAX_SECRET_BYTES, 'a secret may have at most 500 KiB');
}

type Named = Readonly<Record<'secrets' | 'ssh', Readonly<Record<string, unknown>>>> & {
  readonly requests: Users;
  readonly recipes: readonly Users[];
};
type Users = Readonly<Record<'secrets' | 'ssh', readonly string[]>>;

/** Everything referred to by name must exist. */
function checkNames({ requests, recipes, ...there }: Named, context: z.core.$RefinementCtx): void {
  const users = [
    { path: ['requests'], user: requests },
    ...recipes.map((user, at) => ({ path: ['recipes', at], user })),
  ];
  for (const { path, user } of users) {
    for (const kind of ['secrets', 'ssh'] as const) {
      for (const [at, id] of user[kind].entries()) {
        if (Object.hasOwn(there[kind], id)) continue;
        const message = `"${id}" is not a key of builds.${kind}`;
        context.addIssue({ code: 'custom', path: [...path, kind, at], message });
      }
    }
  }
}

/** What a request may refer to in this configuration; recipes may refer to everything. */
function requestsSchema() {
  return z.strictObject({
    secrets: z.array(id()).default([]),
    ssh: z.array(id()).default([]),
    networks: z.array(z.enum(NETWORKS)).min(1).default(['default', 'none']),
  });
}

function limitsSchema() {
  return z
    .strictObject({
      /** In characters of base64, as sent in requests. */
      containerFile: size().prefault('1MiB'),
      context: size().prefault('1GiB'),
      contextEntries: z.int().positive().default(100_000),
    })
    .transform(({ containerFile, context, ...rest }) => ({
      ...rest,
      containerFileBytes: containerFile,
      contextBytes: context,
    }));
}

const PATHS = { layout: 'the folder of the image', output: 'the file to write' };

/** Without `converter` and `command`, there are no images for Singularity. */
function sifSchema() {
  return z
    .strictObject({
      converter: z.enum(['apptainer', 'singularity']).optional(),
      command: commandLine(PATHS).optional(),
      timeout: duration({ minMs: 1000, maxMs: MAX_TIMER_MS }).prefault('10m'),
      /** The compressed size of all layers. */
      maxImage: size().prefault('10GiB'),
      maxSize: size().prefault('10GiB'),
    })
    .refine(({ converter, command }) => converter === undefined || command === undefined, {
      path: ['command'],
      message: 'converter already determines the command: remove either',
    })
    .transform(({ converter, command, timeout, maxImage, maxSize }) => ({
      command: command ?? (converter && [converter, 'build', '--force', '{output}', 'oci:{layout}']),
      timeoutMs: timeout,
      maxImageBytes: maxImage,
      maxSifBytes: maxSize,
    }));
}

function backendSchema() {
  const common = { name: id().optional(), platforms: z.array(platform()).min(1).optional() };
  const tls = z
    .strictObject({
      ca: z.string().optional(),
      cert: z.string().optional(),
      key: z.string().optional(),
      serverName: z.string().optional(),
    })
    .refine(({ cert, key }) => (cert === undefined) === (key === undefined), 'cert and key must be set together');
  const address = z
    .string()
    .regex(
      /^(?:unix:\/\/\/|tcp:\/\/|docker-container:\/\/|kube-pod:\/\/|podman-container:\/\/)./,
      'expected an address such as unix:///run/buildkit/buildkitd.sock or tcp://builder:1234',
    );
  const mappings = z.discriminatedUnion('type', [
    z.strictObject({
      type: z.literal('buildkit'),
      ...common,
      address: address.optional(),
      tls: tls.optional(),
      hostNetwork: z.boolean().default(false),
    }),
    z.strictObject({
      type: z.literal('docker'),
      ...common,
      builder: z.string().min(1).optional(),
      host: z.string().min(1).optional(),
      hostNetwork: z.boolean().default(false),
    }),
    z.strictObject({
      type: z.literal('buildah'),
      ...common,
      root: path().optional(),
      runRoot: path().optional(),
      storageDriver: z.string().min(1).optional(),
      isolation: z.enum(['oci', 'rootless', 'chroot']).optional(),
      runtime: z.string().min(1).optional(),
      hostNetwork: z.boolean().default(false),
    }),
    z.strictObject({ type: z.literal('kubernetes'), ...common, ...kubernetesFields() }).transform(clusterOf),
    z.strictObject({ type: z.literal('embedded'), ...common }),
  ]);
  const backend = z.union(
    [
      z.enum(['auto', 'embedded']).transform(type => ({ type })),
      z.enum(['buildkit', 'docker', 'buildah']).transform(type => ({ type })),
      mappings,
    ],
    { error: issue => (issue.code === 'invalid_union' && findInner(issue.errors)) || EXPECTED_BACKEND },
  );
  return z.preprocess(readType, backend);
}

/** `kind` is an alias of `type`. */
function readType(value: unknown, context: z.core.$RefinementCtx): unknown {
  if (!isMapping(value)) return value;
  const { kind, ...rest } = value;
  const addIssue = (key: string, message: string) => context.addIssue({ code: 'custom', path: [key], message });
  if (rest.cache !== undefined) addIssue('cache', 'all backends share the cache in builds.cacheRepository');
  if (kind === undefined) return value;
  if (rest.type !== undefined && rest.type !== kind) addIssue('kind', 'is an alias of type, and contradicts it');
  return { type: kind, ...rest };
}

const EXPECTED_BACKEND =
  'expected auto, buildkit, docker, buildah or embedded, or a mapping with `type` and its own keys, such as that of kubernetes';

/** The errors inside a mapping whose type is known. */
function findInner(errors: readonly (readonly z.core.$ZodIssue[])[]): string | undefined {
  const inner = errors
    .flat()
    .find(({ path, code }) => (path.length > 0 && path[0] !== 'type') || code === 'unrecognized_keys');
  return inner && [formatPath(inner.path), inner.message].filter(part => part !== '').join(': ');
}

function nameOf(backend: { readonly type: string; readonly name?: string | undefined }): string {
  return backend.name ?? backend.type;
}

/** The name of a repository, with its registry unless it is hosted here. */
function repository() {
  return z
    .string()
    .max(255)
    .regex(REPOSITORY, 'expected a repository such as local/builds or registry.example.com/team/builds, without a tag');
}

/** Made absolute: the commands that receive it run in other directories. */
function path() {
  return z
    .string()
    .min(1)
    .transform(text => resolve(text));
}

function id() {
  return z.string().regex(ID, 'expected letters, digits, ".", "_" and "-"');
}

// The key `builds.recipes`: which missing images are built when they are pulled, and from what.

const textMap = z.record(z.string().min(1).max(128), z.string().max(65_536));

function recipesSchema() {
  return z
    .array(
      z
        .strictObject({
          /** `local/tools/{name}:{version}`. */
          match: z.string().min(1).max(512),
          /** Paths, relative to the working directory. */
          containerFile: z.string().min(1),
          context: z.string().min(1).optional(),
          args: textMap.default({}),
          labels: textMap.default({}),
          stage: z.string().min(1).optional(),
          platforms: z.array(platform()).min(1).optional(),
          secrets: z.array(z.string()).default([]),
          ssh: z.array(z.string()).default([]),
          network: z.enum(['default', 'none', 'host']).default('default'),
          sbom: z.boolean().default(false),
          provenance: z.enum(['none', 'min', 'max']).default('none'),
          /** Absent: built images are not rebuilt. */
          ttl: duration({ minMs: 1000 }).optional(),
          timeout: duration({ minMs: 1000, maxMs: MAX_TIMER_MS }).optional(),
        })
        .transform(({ ttl, timeout, sbom, provenance, ...rest }) => ({
          ...rest,
          attestations: { sbom, provenance },
          ttlMs: ttl,
          timeoutMs: timeout,
        })),
    )
    .max(1000)
    .default([]);
}
