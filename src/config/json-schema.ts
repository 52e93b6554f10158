// The configuration as a JSON schema (draft 2020-12), derived from the schema that validates it: editors complete keys and underline errors
// with it.
import { z } from 'zod';
import { isSecret } from './effective.ts';
import { configSchema } from './schema.ts';
import { isMapping } from './shape.ts';

/** Checks that only Veneer can do are not included: files, references between keys, globs that are too slow. */
export function createJsonSchema(): object {
  const schema = z.toJSONSchema(configSchema({}), {
    io: 'input',
    target: 'draft-2020-12',
    unrepresentable: 'any',
    override({ zodSchema, jsonSchema }) {
      if (isSecret(zodSchema)) jsonSchema.writeOnly = true;
      if (takesOneOrMore(zodSchema)) takeOne(jsonSchema);
      // The draft forbids an empty list of items.
      if (jsonSchema.prefixItems?.length === 0) {
        delete jsonSchema.prefixItems;
        jsonSchema.maxItems = 0;
      }
      // The library omits them where a value is transformed.
      const examples = z.globalRegistry.get(zodSchema)?.examples;
      if (Array.isArray(examples)) jsonSchema.examples = examples;
    },
  });
  return { title: 'veneer.yaml', ...allowEmpty(schema) };
}

/** A list that may be written as its only item. */
function takesOneOrMore(schema: z.core.$ZodType): boolean {
  return schema instanceof z.ZodPipe && schema.in instanceof z.ZodTransform && schema.out instanceof z.ZodArray;
}

function takeOne(schema: z.core.JSONSchema.BaseSchema): void {
  if (schema.type !== 'array' || typeof schema.items !== 'object' || Array.isArray(schema.items)) return;
  const { items, ...list } = schema;
  for (const key of Object.keys(schema)) delete schema[key];
  schema.anyOf = [items, { ...list, items }];
}

/** A key without a value counts as absent, and an entry named by the author gets its defaults. */
function allowEmpty(node: object): object {
  const entries = Object.entries(node).map(([key, value]: [string, unknown]) => {
    const inner = allowEmptyWithin(value);
    const isOfMappings = key === 'additionalProperties' && isMapping(value) && value.type === 'object';
    if (key !== 'properties' || !isMapping(inner)) return [key, isOfMappings ? orNull(inner) : inner];
    return [key, Object.fromEntries(Object.entries(inner).map(([name, each]) => [name, orNull(each)]))];
  });
  return Object.fromEntries(entries);
}

function allowEmptyWithin(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(allowEmptyWithin);
  return isMapping(value) ? allowEmpty(value) : value;
}

function orNull(schema: unknown): unknown {
  if (!isMapping(schema) || Object.keys(schema).length === 0) return schema;
  const { default: preset, ...rest } = schema;
  const kept = preset === undefined ? {} : { default: preset };
  const { anyOf, ...others } = rest;
  if (Array.isArray(anyOf) && Object.keys(others).length === 0) return { ...kept, anyOf: [...anyOf, { type: 'null' }] };
  return { ...kept, anyOf: [rest, { type: 'null' }] };
}
