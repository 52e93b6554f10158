// Documents that are made: JSON as it became, encoded once.
import type { ContentDescriptor } from '../oci/descriptor.ts';
import { digestOf } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { MAX_MANIFEST_BYTES, type Manifest } from '../oci/manifest.ts';
import { encodeJson, type Json, parseJson, withoutMembers, withValues } from './json.ts';
import { checkNames, MANIFEST } from './shape.ts';

export interface Document extends ContentDescriptor {
  readonly raw: Uint8Array;
}

/** Throws MANIFEST_INVALID for a document that no registry would take: configs have the limit of manifests. */
export function createDocument(mediaType: string, json: Json): Document {
  const raw = encodeJson(json);
  if (raw.byteLength <= MAX_MANIFEST_BYTES) return { mediaType, digest: digestOf(raw), size: raw.byteLength, raw };
  throw new RegistryError(
    'MANIFEST_INVALID',
    `the image cannot be augmented: its ${mediaType} would have ${raw.byteLength} bytes, over the limit of ${MAX_MANIFEST_BYTES}`,
  );
}

/** A manifest as it stands. */
export function keptDocument({ mediaType, digest, raw }: Manifest): Document {
  return { mediaType, digest, size: raw.byteLength, raw };
}

/** The JSON of a manifest. Throws MANIFEST_INVALID where clients could read it in different ways. */
export function openManifest({ raw }: Manifest): Json {
  const json = parseJson(raw);
  checkNames(json, MANIFEST);
  return json;
}

/** A raw descriptor that points to `target` instead. Copies of the old bytes and other places to get them from go. */
export function repoint(descriptor: Json, { mediaType, digest, size }: ContentDescriptor): Json {
  return withValues(withoutMembers(descriptor, ['data', 'urls']), { mediaType, digest, size });
}
