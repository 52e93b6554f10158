// The responses of the API by route, for the OpenAPI document. Request bodies use the same schemas that validate them.
import { z } from 'zod';
import { buildRecordSchema } from '../builds/record.ts';
import { CACHE_LINES_MEDIA_TYPE } from '../cache/admin/lines.ts';
import { GC_LINES_MEDIA_TYPE } from '../hosted/gc/report.ts';
import { explanationSchema, ruleListSchema } from '../rules/explanation.ts';
import { registryCredentialsSchema } from './admin/registries-api.ts';
import { createBuildSchema } from './wave/build-schema.ts';
import { inspectSchema } from './wave/inspect.ts';
import { createSubmitSchema, type SubmitLimits } from './wave/submit-schema.ts';
import { tokenListSchema } from './wave/tokens-api.ts';
import { METRICS } from './wave/usage-api.ts';
import { credentialsSchema } from './wave/validate-creds.ts';

/** Response bodies by status. A string is a media type without a schema. */
type Answers = Readonly<Record<number, z.ZodType | string | undefined>>;

export interface Operation {
  readonly method: 'get' | 'post' | 'put' | 'delete';
  /** In hono's syntax. */
  readonly path: string;
  readonly summary: string;
  readonly query?: Readonly<Record<string, z.ZodType>>;
  /** Required query parameters. */
  readonly required?: readonly string[];
  readonly body?: readonly z.ZodType[];
  readonly answers: Answers;
  /** Further error statuses: each with a message. */
  readonly errors: readonly number[];
}

const instant = z.iso.datetime();
const digest = z.string();
/** Additional fields are allowed: clients ignore unknown ones. */
const submitted = z.looseObject({
  requestId: z.string(),
  containerToken: z.string().optional(),
  expiration: instant.optional(),
  targetImage: z.string(),
  targetDigest: digest.optional(),
  containerImage: z.string(),
  buildId: z.string().optional(),
  scanId: z.string().optional(),
  cached: z.boolean().optional(),
  freeze: z.boolean(),
  mirror: z.boolean(),
  succeeded: z.boolean().optional(),
  warnings: z.array(z.string()).optional(),
});
const status = z.looseObject({
  id: z.string(),
  status: z.enum(['PENDING', 'BUILDING', 'SCANNING', 'DONE']),
  buildId: z.string().optional(),
  mirrorId: z.string().optional(),
  scanId: z.string().optional(),
  vulnerabilities: z.record(z.string(), z.int()).optional(),
  succeeded: z.boolean().optional(),
  reason: z.string().optional(),
  detailsUri: z.string().optional(),
  creationTime: instant,
  duration: z.number().optional(),
});
const container = z.looseObject({
  id: z.string(),
  containerImage: z.string(),
  timestamp: instant,
  waveImage: z.string(),
  expiration: instant,
  buildId: z.string().optional(),
});
const token = z.looseObject({
  token: z.string(),
  expiration: instant,
  request: z.looseObject({ containerImage: z.string(), timestamp: instant }),
  source: z.looseObject({ image: z.string(), digest: digest.optional() }),
  wave: z.looseObject({ image: z.string(), digest: digest.optional() }),
});
const build = z.looseObject({ creationTime: instant.optional(), duration: z.number().optional() });
const buildStatus = z.looseObject({
  id: z.string(),
  status: z.enum(['PENDING', 'COMPLETED']),
  startTime: instant,
  duration: z.number().optional(),
  succeeded: z.boolean().optional(),
});
const scan = z.looseObject({
  id: z.string(),
  scanId: z.string(),
  status: z.enum(['PENDING', 'SUCCEEDED', 'FAILED']),
  succeeded: z.boolean().optional(),
  containerImage: z.string(),
  digest: digest.optional(),
  creationTime: instant,
  duration: z.number().optional(),
  reason: z.string().optional(),
  counts: z.record(z.string(), z.int()).optional(),
  vulnerabilities: z.array(z.looseObject({ id: z.string(), severity: z.string(), pkgName: z.string() })).optional(),
});
const usage = z.object({ metric: z.string(), count: z.int(), orgs: z.record(z.string(), z.int()) });
const registry = z.object({ registry: z.string(), userName: z.string(), updatedAt: instant });
const health = z.looseObject({ status: z.enum(['UP', 'DOWN']), reason: z.string().optional() });

const FLAGS = ['true', 'false'] as const;

const READ = [401, 403, 404, 421, 429, 503];
const WRITE = [400, 401, 403, 413, 415, 421, 429, 501, 503, 504, 507];

/** Empty counts as absent. */
function orEmpty(schema: z.ZodType): z.ZodType {
  return z.union([z.literal(''), schema]);
}

function buildOperations(path: string, what: string): readonly Operation[] {
  const id = `${path}/:id`;
  return [
    { method: 'get', path: id, summary: `The record of ${what}`, answers: { 200: build }, errors: READ },
    {
      method: 'get',
      path: `${id}/status`,
      summary: `Whether ${what} has ended`,
      answers: { 200: buildStatus },
      errors: READ,
    },
    {
      ...{ method: 'get', path: `${id}/logs`, summary: `The log of ${what}, to its end` },
      query: { follow: orEmpty(z.enum(FLAGS)) },
      ...{ answers: { 200: 'text/plain' }, errors: [400, ...READ] },
    },
    { method: 'post', path: `${id}/cancel`, summary: `Ends ${what}`, answers: { 200: build }, errors: READ },
    {
      method: 'post',
      path: `${id}/retry`,
      summary: `Begins ${what} again`,
      answers: { 200: build },
      errors: [400, ...READ],
    },
  ];
}

function scanOperations(): readonly Operation[] {
  const id = '/v1alpha1/scans/:id';
  return [
    { method: 'get', path: id, summary: 'The record of a scan', answers: { 200: scan }, errors: READ },
    {
      method: 'get',
      path: `${id}/logs`,
      summary: 'The end of its log',
      answers: { 200: 'text/plain' },
      errors: READ,
    },
    {
      method: 'get',
      path: `${id}/spdx`,
      summary: 'An SBOM of its image, as SPDX',
      answers: { 200: 'application/spdx+json' },
      errors: READ,
    },
  ];
}

function metricOperations(): readonly Operation[] {
  const day = { date: orEmpty(z.iso.date()), org: z.string().max(255) };
  const versions = [
    { version: 'v1alpha2', query: day },
    { version: 'v1alpha3', query: { ...day, arch: z.string() } },
  ] as const;
  return versions.flatMap(({ version, query }) =>
    Object.keys(METRICS).map(
      (metric): Operation => ({
        ...{ method: 'get', path: `/${version}/metrics/${metric}`, summary: `How many ${metric} there were`, query },
        ...{ answers: { 200: usage }, errors: [400, ...READ] },
      }),
    ),
  );
}

function cacheOperations(): readonly Operation[] {
  const answers = { answers: { 200: CACHE_LINES_MEDIA_TYPE }, errors: [400, ...READ] };
  return [
    {
      ...{ method: 'get', path: '/v1/cache/stat', summary: 'The repositories in the cache, as lines of JSON' },
      ...answers,
    },
    {
      ...{ method: 'get', path: '/v1/cache/content', summary: 'Each tag and digest in the cache, as lines of JSON' },
      ...{ query: { repository: z.string() }, ...answers },
    },
    {
      ...{ method: 'post', path: '/v1/cache/prune', summary: 'Removes content from the cache' },
      query: {
        ...{ unusedMs: z.int().min(0), toBytes: z.int().min(0), repositories: z.array(z.string().min(1).max(255)) },
        ...{ dryRun: z.enum(FLAGS), force: z.enum(FLAGS) },
      },
      ...answers,
    },
    {
      ...{ method: 'post', path: '/v1/cache/verify', summary: 'Reads the content of the cache and checks it' },
      ...{ query: { bytesPerSecond: z.int().min(1) }, ...answers },
    },
  ];
}

/** Pages for humans. Their errors are those of the JSON. */
function viewOperations(): readonly Operation[] {
  const page = { answers: { 200: 'text/html' }, errors: READ };
  const kinds = { containers: 'a request', builds: 'a build', mirrors: 'a mirror', scans: 'a scan' };
  return [
    ...Object.entries(kinds).map(
      ([kind, what]): Operation => ({
        ...{ method: 'get', path: `/view/${kind}/:id`, summary: `The record of ${what}, as a page` },
        ...page,
      }),
    ),
    {
      ...{ method: 'get', path: '/view/inspect', summary: 'The config and manifest of an image, as a page' },
      query: { image: z.string().min(1), platform: z.string() },
      required: ['image'],
      ...{ answers: page.answers, errors: [400, ...READ] },
    },
  ];
}

export function listOperations(limits: SubmitLimits): readonly Operation[] {
  const submit = {
    body: [createSubmitSchema(limits), createBuildSchema(limits)],
    answers: { 200: submitted },
    errors: WRITE,
  };
  return [
    {
      method: 'post',
      path: '/v1alpha2/container',
      summary: 'Requests an image: augmented, built, frozen or mirrored',
      ...submit,
    },
    { method: 'post', path: '/container-token', summary: 'The same, in the first version of the API', ...submit },
    {
      method: 'get',
      path: '/v1alpha2/container/:id',
      summary: 'The record of a request',
      answers: { 200: container },
      errors: [400, ...READ],
    },
    {
      method: 'get',
      path: '/v1alpha2/container/:id/status',
      summary: 'Whether its image is ready',
      answers: { 200: status },
      errors: [400, ...READ],
    },
    {
      method: 'get',
      path: '/container-token/:id',
      summary: 'The record of a token',
      answers: { 200: token },
      errors: [400, ...READ],
    },
    {
      method: 'delete',
      path: '/container-token/:id',
      summary: 'Revokes a token',
      answers: { 200: token },
      errors: [400, ...READ],
    },
    {
      ...{ method: 'post', path: '/v1alpha1/inspect', summary: 'The config and manifest of an image, or its index' },
      query: { platform: z.string() },
      body: [inspectSchema],
      answers: {
        200: z.union([
          z.object({ container: z.looseObject({ digest }) }),
          z.object({ index: z.looseObject({ digest }) }),
        ]),
      },
      errors: WRITE,
    },
    {
      ...{ method: 'get', path: '/v1alpha1/builds', summary: 'The builds that the caller may see, newest first' },
      query: { limit: orEmpty(z.int().min(1)), after: z.string(), status: orEmpty(buildRecordSchema.shape.status) },
      ...{ answers: { 200: z.object({ builds: z.array(build) }) }, errors: [400, ...READ] },
    },
    ...buildOperations('/v1alpha1/builds', 'a build'),
    ...buildOperations('/v1alpha1/mirrors', 'a mirror'),
    {
      ...{ method: 'get', path: '/v1alpha1/builds/:id/condalock', summary: 'The conda packages that it installed' },
      query: { platform: z.string() },
      ...{ answers: { 200: 'text/plain' }, errors: READ },
    },
    ...scanOperations(),
    ...metricOperations(),
    ...['/v1alpha2/validate-creds', '/validate-creds'].map(
      (path): Operation => ({
        ...{ method: 'post', path, summary: 'Whether a registry accepts a user name and password' },
        ...{ body: [credentialsSchema], answers: { 200: z.boolean() }, errors: WRITE },
      }),
    ),
    {
      ...{ method: 'get', path: '/v1/registries', summary: 'The registries that the caller has stored credentials of' },
      ...{ answers: { 200: z.object({ registries: z.array(registry) }) }, errors: READ },
    },
    {
      ...{ method: 'put', path: '/v1/registries/:registry', summary: 'Stores credentials of a registry' },
      body: [registryCredentialsSchema],
      ...{ answers: { 200: registry.omit({ updatedAt: true }) }, errors: WRITE },
    },
    {
      method: 'delete',
      path: '/v1/registries/:registry',
      summary: 'Deletes them',
      answers: { 204: undefined },
      errors: READ,
    },
    {
      ...{ method: 'get', path: '/v1/tokens', summary: 'The tokens in names of images that the caller asked for' },
      query: { workflow: z.string().min(1).max(255), after: z.string(), limit: z.int().min(1).max(1000) },
      ...{ answers: { 200: tokenListSchema }, errors: [400, ...READ] },
    },
    {
      ...{ method: 'delete', path: '/v1/tokens', summary: 'Revokes all tokens of a workflow' },
      query: { workflow: z.string().min(1).max(255) },
      required: ['workflow'],
      ...{ answers: { 200: z.object({ revoked: z.int() }) }, errors: [400, ...READ] },
    },
    { method: 'get', path: '/v1/rules', summary: 'The active rules', answers: { 200: ruleListSchema }, errors: READ },
    {
      ...{ method: 'get', path: '/v1/rules/explain', summary: 'The effect of the rules on an image' },
      query: { image: z.string().min(1).max(512), platform: z.string(), caller: z.string().max(255) },
      required: ['image'],
      ...{ answers: { 200: explanationSchema }, errors: [400, ...READ] },
    },
    ...cacheOperations(),
    {
      ...{ method: 'post', path: '/v1/hosted/collect', summary: 'Removes unneeded content from hosted repositories' },
      query: { dryRun: z.enum(FLAGS), force: z.enum(FLAGS) },
      ...{ answers: { 200: GC_LINES_MEDIA_TYPE }, errors: [400, ...READ] },
    },
    ...viewOperations(),
    {
      method: 'get',
      path: '/service-info',
      summary: 'Version and builders',
      answers: { 200: z.object({ serviceInfo: z.looseObject({ version: z.string() }) }) },
      errors: [421],
    },
    {
      method: 'get',
      path: '/health/live',
      summary: 'Whether the process responds',
      answers: { 200: health },
      errors: [],
    },
    {
      ...{ method: 'get', path: '/metrics', summary: 'What Prometheus scrapes' },
      ...{ answers: { 200: 'text/plain' }, errors: READ },
    },
    ...['/health/ready', '/healthz'].map(
      (path): Operation => ({
        ...{ method: 'get', path, summary: 'Whether it can serve', answers: { 200: health, 503: health }, errors: [] },
      }),
    ),
  ];
}
