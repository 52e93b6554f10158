// The OpenAPI document, generated from the operations and the request schemas, and a page to read it and try requests.
import { Hono } from 'hono';
import { z } from 'zod';
import { findBounded } from '../oci/bounded.ts';
import { listOperations, type Operation } from './openapi-operations.ts';
import { PAGE, SCRIPT, STYLE } from './openapi-page.ts';
import type { SubmitLimits } from './wave/submit-schema.ts';

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

function describeOperation({ path, summary, query = {}, required = [], body, answers, errors }: Operation) {
  const inPath = [...path.matchAll(/:(\w+)/g)].map(([, name]) => ({
    ...{ name, in: 'path', required: true },
    schema: { type: 'string' },
  }));
  const inQuery = Object.entries(query).map(([name, schema]) => ({
    name,
    in: 'query',
    ...(required.includes(name) && { required: true }),
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

function describeAnswer(answer: Operation['answers'][number]) {
  if (answer === undefined) return { description: 'Done' };
  if (typeof answer === 'string') return { description: 'Done', content: { [answer]: { schema: { type: 'string' } } } };
  return { description: 'Done', content: jsonOf(describeSchema(answer)) };
}

function jsonOf(schema: unknown) {
  return { 'application/json': { schema } };
}

/** As sent: the result of a schema's transformation is not shown. */
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
