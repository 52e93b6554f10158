// The configuration schema as a tree of keys: which keys a mapping has, and which of them were left empty.
import { z } from 'zod';

/**
 * The value without keys that have no value: `upstreams:` alone counts as absent. Entries named by the author, such as an upstream, stay
 * and get their defaults if possible; the schema rejects an empty text or list entry.
 */
export function dropEmpty(schema: z.core.$ZodType, value: unknown): unknown {
  if (Array.isArray(value)) {
    const elements = alternativesOf(schema).flatMap(each => (each instanceof z.ZodArray ? [each.element] : []));
    return value.map(item => elements.reduce((result, element) => dropEmpty(element, result), item));
  }
  if (!isMapping(value)) return value;
  return alternativesOf(schema).reduce<unknown>((result, each) => dropEmptyKeys(each, result), value);
}

/** The keys that the mapping at a path may have; none where its author chooses them. */
export function keysAt(schema: z.core.$ZodType, path: readonly PropertyKey[]): readonly string[] {
  const schemas = path.reduce<readonly z.core.$ZodType[]>(
    (found, key) => found.flatMap(each => innerOf(each, key)),
    [schema],
  );
  return schemas.flatMap(alternativesOf).flatMap(each => (each instanceof z.ZodObject ? Object.keys(each.shape) : []));
}

export function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function dropEmptyKeys(schema: z.core.$ZodType, value: unknown): unknown {
  if (!isMapping(value)) return value;
  const entries = Object.entries(value);
  if (schema instanceof z.ZodObject) {
    const kept = entries.filter(([key, item]) => item !== null || !Object.hasOwn(schema.shape, key));
    return Object.fromEntries(kept.map(([key, item]) => [key, dropInner(innerOf(schema, key), item)]));
  }
  if (!(schema instanceof z.ZodRecord)) return value;
  const isOfMappings = alternativesOf(schema.valueType).some(each => each instanceof z.ZodObject);
  return Object.fromEntries(
    entries.map(([key, item]) => [key, dropInner([schema.valueType], isOfMappings ? (item ?? {}) : item)]),
  );
}

function dropInner(schemas: readonly z.core.$ZodType[], value: unknown): unknown {
  return schemas.reduce((result, schema) => dropEmpty(schema, result), value);
}

function innerOf(schema: z.core.$ZodType, key: PropertyKey): readonly z.core.$ZodType[] {
  return alternativesOf(schema).flatMap(each => {
    if (each instanceof z.ZodArray) return [each.element];
    if (each instanceof z.ZodRecord) return [each.valueType];
    if (!(each instanceof z.ZodObject)) return [];
    const shape: Readonly<Record<PropertyKey, z.core.$ZodType>> = each.shape;
    const inner = Object.hasOwn(shape, key) ? shape[key] : undefined;
    return inner ? [inner] : [];
  });
}

/** The schema's alternatives, without the defaults and transformations around them. */
export function alternativesOf(schema: z.core.$ZodType): readonly z.core.$ZodType[] {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodNullable || schema instanceof z.ZodReadonly)
    return alternativesOf(schema.unwrap());
  if (schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault) return alternativesOf(schema.unwrap());
  if (schema instanceof z.ZodPipe) return alternativesOf(schema.in instanceof z.ZodTransform ? schema.out : schema.in);
  if (schema instanceof z.ZodUnion) return schema.options.flatMap(alternativesOf);
  return [schema];
}
