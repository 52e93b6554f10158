// Whether an answer is one that the OpenAPI document of the app describes.
import { expect } from 'vitest';
import { z } from 'zod';
import { createOpenApiDocument } from '../../src/http/openapi.ts';

const LIMITS = { maxLocationCharacters: 14_000_000, maxIncludes: 10, maxContainerFileCharacters: 1_048_576 };
const operationSchema = z.object({
  responses: z.record(
    z.string(),
    z.object({ content: z.record(z.string(), z.object({ schema: z.record(z.string(), z.unknown()) })).optional() }),
  ),
});
type Operation = z.infer<typeof operationSchema>;

const described = createOpenApiDocument({ limits: LIMITS, version: '0.0.0' });
const errorSchema = z.object({ message: z.string() });

const operations = Object.entries(described.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({
    name: `${method.toUpperCase()} ${path}`,
    method: method.toUpperCase(),
    pattern: new RegExp(`^${path.replace(/\{\w+\}/g, '[^/]+')}$`),
    operation: operationSchema.parse(operation),
  })),
);

/** What the document has, as `GET /v1alpha2/container/{id}`. */
export const describedOperations: readonly string[] = operations.map(({ name }) => name);

/** Fails for a status, a type or a body that the document does not have; passes over what it is not about. */
export async function expectDescribed(method: string, path: string, response: Response): Promise<void> {
  const { pathname } = new URL(path, 'http://veneer');
  const found = operations.find(each => each.method === method && each.pattern.test(pathname));
  if (!found) return;
  const answer: Operation['responses'][string] | undefined = found.operation.responses[response.status];
  const told = `${found.name} answers ${response.status}`;
  expect(answer, `${told}, which the document does not have`).toBeDefined();
  const type = response.headers.get('Content-Type')?.replace(/;.*/, '') ?? '';
  const content = answer?.content?.[type];
  if (answer?.content === undefined) return;
  if (type === 'text/event-stream') return;
  expect(content, `${told} as ${type}, which the document does not have`).toBeDefined();
  if (type !== 'application/json' || content === undefined) return;
  const schema = '$ref' in content.schema ? errorSchema : z.fromJSONSchema(content.schema);
  const { error } = schema.safeParse(await response.clone().json());
  expect(error?.issues, `${told} with a body that the document does not have`).toBeUndefined();
}
