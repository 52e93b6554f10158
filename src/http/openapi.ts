// The OpenAPI document, made of the schemas that check requests, and a page of our own to read it and to try requests.
import { Hono } from 'hono';
import { z } from 'zod';
import { findBounded } from '../oci/bounded.ts';
import { ruleListSchema } from '../rules/explanation.ts';
import { registryCredentialsSchema } from './admin/registries-api.ts';
import { PAGE, SCRIPT, STYLE } from './openapi-page.ts';
import { createBuildSchema } from './wave/build-schema.ts';
import { inspectSchema } from './wave/inspect.ts';
import { createSubmitSchema, type SubmitLimits } from './wave/submit-schema.ts';
import { METRICS } from './wave/usage-api.ts';
import { credentialsSchema } from './wave/validate-creds.ts';

/** What is sent back, by status. A text is a media type of which no more is said. */
type Answers = Readonly<Record<number, z.ZodType | string | undefined>>;

interface Operation {
  readonly method: 'get' | 'post' | 'put' | 'delete';
  /** As hono has it. */
  readonly path: string;
  readonly summary: string;
  readonly query?: Readonly<Record<string, z.ZodType>>;
  readonly body?: readonly z.ZodType[];
  readonly answers: Answers;
  /** What may be answered besides: each with a message. */
  readonly errors: readonly number[];
}

const instant = z.iso.datetime();
const digest = z.string();
/** Further fields are allowed: clients pass over what they do not know. */
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

const READ = [401, 403, 404, 421, 429, 503];
const WRITE = [400, 401, 403, 413, 415, 421, 429, 501, 503, 504, 507];

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
      query: { follow: z.enum(['true', 'false']) },
      ...{ answers: { 200: 'text/plain' }, errors: READ },
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
  const day = { date: z.string(), org: z.string() };
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

function listOperations(limits: SubmitLimits): readonly Operation[] {
  const submit = {
    body: [createSubmitSchema(limits), createBuildSchema(limits)],
    answers: { 200: submitted },
    errors: WRITE,
  };
  return [
    {
      method: 'post',
      path: '/v1alpha2/container',
      summary: 'Asks for an image: augmented, built, frozen or mirrored',
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
      summary: 'What a token stands for',
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
      ...{ method: 'get', path: '/v1alpha1/builds', summary: 'The builds that the caller may see, the newest first' },
      query: { limit: z.string(), after: z.string(), status: z.string() },
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
    { method: 'get', path: '/v1/rules', summary: 'The rules in force', answers: { 200: ruleListSchema }, errors: READ },
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
      summary: 'Whether the process answers',
      answers: { 200: health },
      errors: [],
    },
    {
      method: 'get',
      path: '/health/ready',
      summary: 'Whether it can serve',
      answers: { 200: health, 503: health },
      errors: [],
    },
  ];
}

/** OpenAPI 3.1: its schemas are JSON Schema 2020-12. */
export function createOpenApiDocument({
  limits,
  version,
}: {
  readonly limits: SubmitLimits;
  readonly version: string;
}) {
  const paths: Record<string, Record<string, object>> = {};
  for (const operation of listOperations(limits)) {
    const path = operation.path.replace(/:(\w+)/g, '{$1}');
    paths[path] = { ...paths[path], [operation.method]: describeOperation(operation) };
  }
  return {
    openapi: '3.1.0',
    info: { title: 'Veneer', version, description: 'The augment API. Keys that are null count as absent.' },
    security: [{}, { bearer: [] }, { basic: [] }],
    paths,
    components: {
      securitySchemes: { bearer: { type: 'http', scheme: 'bearer' }, basic: { type: 'http', scheme: 'basic' } },
      schemas: {
        Error: describeSchema(z.object({ message: z.string() })),
        RegistryError: describeSchema(registryError),
      },
    },
  };
}

const registryError = z.object({ errors: z.array(z.looseObject({ code: z.string(), message: z.string() })) });

function describeOperation({ path, summary, query = {}, body, answers, errors }: Operation) {
  const inPath = [...path.matchAll(/:(\w+)/g)].map(([, name]) => ({
    ...{ name, in: 'path', required: true },
    schema: { type: 'string' },
  }));
  const inQuery = Object.entries(query).map(([name, schema]) => ({
    name,
    in: 'query',
    schema: describeSchema(schema),
  }));
  const parts = body?.map(describeSchema);
  return {
    summary,
    parameters: [...inPath, ...inQuery],
    ...(parts && {
      requestBody: { required: true, content: jsonOf(parts.length === 1 ? parts[0] : { allOf: parts }) },
    }),
    responses: {
      ...Object.fromEntries(errors.map(code => [code, { description: 'An error', content: jsonOf(ERROR) }])),
      ...Object.fromEntries(Object.entries(answers).map(([code, answer]) => [code, describeAnswer(answer)])),
    },
  };
}

const ERROR = { $ref: '#/components/schemas/Error' };

function describeAnswer(answer: Answers[number]) {
  if (answer === undefined) return { description: 'Done' };
  if (typeof answer === 'string') return { description: 'Done', content: { [answer]: { schema: { type: 'string' } } } };
  return { description: 'Done', content: jsonOf(describeSchema(answer)) };
}

function jsonOf(schema: unknown) {
  return { 'application/json': { schema } };
}

/** As it is sent: what a schema makes of it is not shown. */
function describeSchema(schema: z.ZodType): Record<string, unknown> {
  const { $schema: _, ...described } = z.toJSONSchema(schema, {
    io: 'input',
    unrepresentable: 'any',
    override({ zodSchema, jsonSchema }) {
      const bounded = findBounded(zodSchema);
      if (bounded?.kind === 'list')
        Object.assign(jsonSchema, { type: 'array', items: describeSchema(bounded.inner), maxItems: bounded.max });
      if (bounded?.kind === 'map')
        Object.assign(jsonSchema, {
          type: 'object',
          additionalProperties: describeSchema(bounded.inner),
          maxProperties: bounded.max,
        });
    },
  });
  return described;
}

const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

export function createOpenApi(options: { readonly limits: SubmitLimits; readonly version: string }): Hono {
  const app = new Hono();
  const document = JSON.stringify(createOpenApiDocument(options));
  const answers = [
    ['/openapi.json', 'application/json', document],
    ['/openapi', 'text/html; charset=utf-8', PAGE],
    ['/openapi/page.js', 'text/javascript; charset=utf-8', SCRIPT],
    ['/openapi/page.css', 'text/css; charset=utf-8', STYLE],
  ] as const;
  for (const [path, type, body] of answers)
    app.get(path, c => c.body(body, 200, { 'Content-Type': type, 'Content-Security-Policy': POLICY }));
  return app;
}
