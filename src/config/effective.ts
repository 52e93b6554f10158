// The effective configuration: every key with its value, as it would be written, and its source. Secrets are not shown.
import { z } from 'zod';
import { type ConfigSources, type KeySource, readGiven } from './config.ts';
import { formatPath } from './faults.ts';
import { alternativesOf, isMapping } from './shape.ts';

export interface EffectiveKey {
  readonly path: readonly PropertyKey[];
  /** Without mappings and lists that have keys of their own: these are listed one by one. */
  readonly value: unknown;
  /** `default`, `veneer.yaml:3`, `VENEER_LISTEN` or `--listen`. */
  readonly source: string;
}

const HIDDEN = '(hidden)';

/** In the order of the schema; absent keys without a default are omitted. Throws ConfigError for an unreadable file. */
export function listEffectiveKeys(sources: ConfigSources): readonly EffectiveKey[] {
  const { content, schema, sourceOf } = readGiven(sources);
  return list(schema, content, []);

  function list(schema: z.core.$ZodType, given: unknown, path: readonly PropertyKey[]): readonly EffectiveKey[] {
    const toKey = (value: unknown) => ({ path, value, source: formatSource(sourceOf(path)) });
    if (given === undefined) return listDefaults(schema, path);
    return descend(schema, given, path, list) ?? [toKey(isSecret(schema) ? hide(given) : withoutSecrets(given))];
  }
}

type List = (schema: z.core.$ZodType, value: unknown, path: readonly PropertyKey[]) => readonly EffectiveKey[];

/** The keys within a value; undefined where it has none. */
function descend(
  schema: z.core.$ZodType,
  value: unknown,
  path: readonly PropertyKey[],
  list: List,
): readonly EffectiveKey[] | undefined {
  if (isSecret(schema)) return undefined;
  if (Array.isArray(value)) {
    const element = findElement(schema);
    if (element === undefined || !(isSecret(element) || value.some(isMapping))) return undefined;
    return value.flatMap((item, at) => list(element, item, [...path, at]));
  }
  if (!isMapping(value)) return undefined;
  const keys = findKeys(schema, value);
  return keys.length === 0 ? undefined : keys.flatMap(([key, inner]) => list(inner, value[key], [...path, key]));
}

function listDefaults(schema: z.core.$ZodType, path: readonly PropertyKey[]): readonly EffectiveKey[] {
  const found = findDefault(schema);
  if (!found) return [];
  const listInner: List = (inner, value, at) =>
    value === undefined ? listDefaults(inner, at) : [{ path: at, value, source: 'default' }];
  return descend(schema, found.value, path, listInner) ?? [{ path, value: found.value, source: 'default' }];
}

/** As it would be written in the file. */
function findDefault(schema: z.core.$ZodType): { readonly value: unknown } | undefined {
  if (schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault) return { value: schema.def.defaultValue };
  if (schema instanceof z.ZodNullable || schema instanceof z.ZodReadonly) return findDefault(schema.unwrap());
  if (schema instanceof z.ZodPipe) return findDefault(schema.in instanceof z.ZodTransform ? schema.out : schema.in);
  return undefined;
}

/** The keys of the schema, or the author's own, each with its schema. */
function findKeys(schema: z.core.$ZodType, value: Record<string, unknown>): readonly [string, z.core.$ZodType][] {
  const alternatives = alternativesOf(schema);
  const objects = alternatives.filter(each => each instanceof z.ZodObject);
  const given = Object.keys(value);
  const object = objects.find(({ shape }) => given.every(key => key in shape && isPossible(shape[key], value[key])));
  if (object) return Object.entries(object.shape);
  const record = alternatives.find(each => each instanceof z.ZodRecord);
  return record ? given.map(key => [key, record.valueType]) : [];
}

/** Distinguishes variants by a key that names them. */
function isPossible(schema: z.core.$ZodType, value: unknown): boolean {
  return !(schema instanceof z.ZodLiteral) || schema.safeParse(value).success;
}

function findElement(schema: z.core.$ZodType): z.core.$ZodType | undefined {
  return alternativesOf(schema).find(each => each instanceof z.ZodArray)?.element;
}

/** As defined by `secret` in values.ts: text, or a reference to its location. */
export function isSecret(schema: z.core.$ZodType): boolean {
  const places = alternativesOf(schema).flatMap(each => (each instanceof z.ZodObject ? Object.keys(each.shape) : []));
  return places.length === 2 && places.includes('env') && places.includes('file');
}

/** The location of a secret is not itself a secret. */
function hide(value: unknown): unknown {
  return isMapping(value) ? value : HIDDEN;
}

/** A URL anywhere may contain a password or a signature. */
function withoutSecrets(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutSecrets);
  if (typeof value !== 'string') return value;
  const url = URL.parse(value);
  const hasSecret = url !== null && url.host !== '' && (url.username || url.password || url.search);
  return hasSecret ? `${url.protocol}//${url.host}${url.pathname} ${HIDDEN}` : value;
}

function formatSource({ source, file, line }: KeySource): string {
  if (source !== undefined) return source;
  return file === undefined ? 'default' : `${file}:${line}`;
}

/** One key, for scripts. */
export function describeKey({ path, value, source }: EffectiveKey) {
  return { key: formatPath(path), value, source };
}
