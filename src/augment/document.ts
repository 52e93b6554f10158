// JSON documents that are edited: the value that came from the bytes, changed in the named fields only, and encoded once.
import type { ContentDescriptor } from '../oci/descriptor.ts';
import { digestOf } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';

export interface Document extends ContentDescriptor {
  readonly raw: Uint8Array;
}

export type JsonObject = Readonly<Record<string, unknown>>;

/** The document as it stands, key order and unknown fields included. Throws MANIFEST_INVALID when it is no JSON object. */
export function parseObject(raw: Uint8Array): JsonObject {
  const value: unknown = JSON.parse(new TextDecoder().decode(raw));
  if (!isObject(value)) throw new RegistryError('MANIFEST_INVALID', 'invalid document: not a JSON object');
  return value;
}

/** An object's field that is an object itself; an empty one where there is none. */
export function objectIn(parent: JsonObject, key: string): JsonObject {
  const value = parent[key];
  return isObject(value) ? value : {};
}

/** An object's field that is a list; an empty one where there is none. */
export function listIn(parent: JsonObject, key: string): readonly unknown[] {
  const value = parent[key];
  return Array.isArray(value) ? value : [];
}

export function encodeObject(value: JsonObject): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

export function createDocument(mediaType: string, raw: Uint8Array): Document {
  return { mediaType, digest: digestOf(raw), size: raw.byteLength, raw };
}

/** A raw descriptor that points to `target` instead. Copies of the old bytes and other places to get them from go. */
export function repoint(descriptor: JsonObject, target: Partial<ContentDescriptor>): JsonObject {
  const { data, urls, ...kept } = descriptor;
  return { ...kept, ...target };
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
