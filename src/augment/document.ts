// Generated documents: JSON encoded exactly once.
import type { ContentDescriptor } from '../oci/descriptor.ts';
import { digestOf } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { MAX_MANIFEST_BYTES, type Manifest } from '../oci/manifest.ts';
import { encodeJson, type Json, parseJson, withoutMembers, withValues } from './json.ts';

export interface Document extends ContentDescriptor {
  readonly raw: Uint8Array;
}

/** Throws MANIFEST_INVALID for a document that registries would reject for its size; configs have the same limit as manifests. */
export function createDocument(mediaType: string, json: Json): Document {
  const raw = encodeJson(json);
  if (raw.byteLength <= MAX_MANIFEST_BYTES) return { mediaType, digest: digestOf(raw), size: raw.byteLength, raw };
  throw new RegistryError(
    'MANIFEST_INVALID',
    `the image cannot be augmented: its ${mediaType} would have ${raw.byteLength} bytes, over the limit of ${MAX_MANIFEST_BYTES}`,
  );
}

/** An existing manifest, unchanged. */
export function unchangedDocument({ mediaType, digest, raw }: Manifest): Document {
  return { mediaType, digest, size: raw.byteLength, raw };
}

/** The JSON of a manifest. Throws MANIFEST_INVALID where it is ambiguous. */
export function openManifest({ raw }: Manifest): Json {
  const json = parseJson(raw);
  checkNames(json, MANIFEST);
  return json;
}

/** A raw descriptor re-pointed to `target`. Embedded data and URLs of the old bytes are removed. */
export function repoint(descriptor: Json, { mediaType, digest, size }: ContentDescriptor): Json {
  return withValues(withoutMembers(descriptor, ['data', 'urls']), { mediaType, digest, size });
}

// The field names that we read and write. Go, in which most clients are written, matches names case-insensitively: a document that spells
// one of them differently means one thing to us and another to those clients.

/** Field names of an object, or of each object of a list; null where nothing inside is checked: plain values and maps. */
export interface Shape {
  readonly [name: string]: Shape | null;
}

const PLATFORM: Shape = { os: null, architecture: null, variant: null };

const DESCRIPTOR: Shape = {
  mediaType: null,
  digest: null,
  size: null,
  urls: null,
  data: null,
  annotations: null,
  artifactType: null,
  platform: PLATFORM,
};

/** Of image-spec manifest.md and image-index.md. */
export const MANIFEST: Shape = {
  schemaVersion: null,
  mediaType: null,
  artifactType: null,
  config: DESCRIPTOR,
  layers: DESCRIPTOR,
  manifests: DESCRIPTOR,
  fsLayers: null,
  annotations: null,
};

/** Of image-spec config.md. */
export const CONFIG: Shape = {
  ...PLATFORM,
  created: null,
  config: {
    Env: null,
    Entrypoint: null,
    Cmd: null,
    WorkingDir: null,
    User: null,
    Labels: null,
    ExposedPorts: null,
  },
  rootfs: { type: null, diff_ids: null },
  history: { empty_layer: null },
};

/** Throws MANIFEST_INVALID for a key that differs from a known field name only in case. */
export function checkNames(json: Json, shape: Shape): void {
  const names = new Map(Object.keys(shape).map(name => [fold(name), name]));
  for (const [key, value] of json.members ?? []) {
    const name = names.get(fold(key));
    if (name === undefined) continue;
    if (name !== key) throw ambiguous(key, name);
    const within = shape[name];
    if (within) for (const part of [value, ...(value.items ?? [])]) checkNames(part, within);
  }
}

/** Case folding as in Go, where the long s and the Kelvin sign fold to letters too. */
function fold(name: string): string {
  return name.toUpperCase().toLowerCase();
}

function ambiguous(key: string, name: string): RegistryError {
  const reason = `its key ${JSON.stringify(key)} is taken for "${name}" by some clients and ignored by others`;
  return new RegistryError('MANIFEST_INVALID', `the document cannot be augmented: ${reason}`);
}
