// The OpenAPI document, generated from the operations and the request schemas, and a page to read it and try requests.
import { Hono } from 'hono';
import { z } from 'zod';
import { findBounded } from '../oci/bounded.ts';
import { listOperations, type Operation } from './openapi-operations.ts';
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
  let document: string | undefined;
  const answers = [
    // Made when it is first asked for: a thirtieth of a start.
    ['/openapi.json', 'application/json', () => (document ??= JSON.stringify(createOpenApiDocument(options)))],
    ['/openapi', 'text/html; charset=utf-8', () => PAGE],
    ['/openapi/page.js', 'text/javascript; charset=utf-8', () => SCRIPT],
    ['/openapi/page.css', 'text/css; charset=utf-8', () => STYLE],
  ] as const;
  for (const [path, type, findBody] of answers)
    app.get(path, c => c.body(findBody(), 200, { 'Content-Type': type, 'Content-Security-Policy': POLICY }));
  return app;
}

// The page that shows the OpenAPI document and tries requests: plain, without external resources.

const PAGE = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Veneer API</title>
<link rel="stylesheet" href="/openapi/page.css">
<script src="/openapi/page.js" type="module"></script>
<h1>Veneer API</h1>
<p>The document is <a href="/openapi.json">/openapi.json</a>. Requests go to this service alone.</p>
<label>Token or user:password, kept in this page only <input id="secret" type="password" autocomplete="off"></label>
<main id="operations"></main>
</html>
`;

const STYLE = `
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
details { border: 1px solid #ccc; border-radius: 4px; margin: .5rem 0; padding: .5rem .75rem; }
summary { cursor: pointer; }
summary code { font-weight: 600; }
label { display: block; margin: .5rem 0; }
input, textarea { width: 100%; box-sizing: border-box; font: 13px/1.4 ui-monospace, monospace; padding: .3rem; }
textarea { min-height: 8rem; }
pre { background: #f5f5f5; overflow: auto; max-height: 30rem; padding: .5rem; white-space: pre-wrap; }
button { padding: .3rem 1rem; }
`;

/** Text from the service is inserted as text, never as markup. */
const SCRIPT = `
const element = (name, text, children = []) => {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
};

function authorization() {
  const secret = document.getElementById('secret').value.trim();
  if (secret === '') return {};
  if (secret.startsWith('vnr_')) return { Authorization: 'Basic ' + btoa('token:' + secret) };
  return { Authorization: secret.includes(':') ? 'Basic ' + btoa(secret) : 'Bearer ' + secret };
}

function showOperation(path, method, operation) {
  const inputs = operation.parameters.map(({ name, in: place }) => ({ name, place, input: element('input') }));
  const body = operation.requestBody && element('textarea', '{}');
  const output = element('pre');
  const send = element('button', 'Send');
  send.onclick = async () => {
    let target = path;
    const query = new URLSearchParams();
    for (const { name, place, input } of inputs) {
      if (place === 'path') target = target.replace('{' + name + '}', encodeURIComponent(input.value));
      else if (input.value !== '') query.set(name, input.value);
    }
    if (query.size > 0) target += '?' + query;
    const headers = { ...authorization(), ...(body && { 'Content-Type': 'application/json' }) };
    output.textContent = 'waiting';
    try {
      const answer = await fetch(target, { method: method.toUpperCase(), headers, ...(body && { body: body.value }) });
      const text = await answer.text();
      let shown = text;
      try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch {}
      output.textContent = answer.status + ' ' + answer.statusText + '\\n\\n' + shown;
    } catch (error) {
      output.textContent = String(error);
    }
  };
  const title = element('summary', '', [element('code', method.toUpperCase() + ' ' + path), ' ' + operation.summary]);
  return element('details', '', [
    title,
    ...inputs.map(({ name, input }) => element('label', name, [input])),
    ...(body ? [element('label', 'body', [body])] : []),
    send,
    output,
    element('details', '', [element('summary', 'schemas'), element('pre', JSON.stringify(operation, null, 2))]),
  ]);
}

const described = await (await fetch('/openapi.json')).json();
for (const [path, methods] of Object.entries(described.paths))
  for (const [method, operation] of Object.entries(methods))
    document.getElementById('operations').append(showOperation(path, method, operation));
`;
