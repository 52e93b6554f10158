// JSON objects that are looked at and shown, never encoded again: a number may have lost digits, and keys their order.
import { RegistryError } from './errors.ts';

export type JsonObject = Readonly<Record<string, unknown>>;

/** Throws MANIFEST_INVALID for bytes that are no JSON object. */
export function parseObject(raw: Uint8Array): JsonObject {
  const value = parse(raw);
  if (!isObject(value)) throw new RegistryError('MANIFEST_INVALID', 'invalid document: not a JSON object');
  return value;
}

/** An object's field that is an object itself; an empty one where there is none. */
export function objectIn(parent: JsonObject, key: string): JsonObject {
  const value = parent[key];
  return isObject(value) ? value : {};
}

function parse(raw: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(raw));
  } catch (cause) {
    throw new RegistryError('MANIFEST_INVALID', 'invalid document: not JSON', { cause });
  }
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
