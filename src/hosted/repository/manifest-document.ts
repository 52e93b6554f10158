// A pushed manifest: its type, on which document and Content-Type must agree, and its references. The bytes are stored unchanged.
import { isUtf8 } from 'node:buffer';
import { z } from 'zod';
import { atMost, listSchema, mapSchema } from '../../oci/bounded.ts';
import { type Descriptor, descriptorSchema } from '../../oci/descriptor.ts';
import { RegistryError } from '../../oci/errors.ts';
import { describeFault, InvalidJson, parseJson } from '../../oci/json.ts';
import { parseManifest } from '../../oci/manifest.ts';
import { isActiveType, isIndexType, isManifestType, mediaTypes } from '../../oci/media-type.ts';

export interface ManifestDocument {
  readonly mediaType: string;
  /** Whether we know the schema of the type; for other types the references are those we recognise. */
  readonly isKnown: boolean;
  /** Config, layers, and an artifact manifest's blobs. */
  readonly blobs: readonly Descriptor[];
  /** The entries of an index: manifests, or blobs where an index lists a build cache. */
  readonly manifests: readonly Descriptor[];
  readonly subject: Descriptor | undefined;
  /** Used in referrers lists: distribution-spec "Listing Referrers". */
  readonly artifactType: string | undefined;
  readonly annotations: Readonly<Record<string, string>> | undefined;
}

/** Limit per document. Each reference is a record. */
const MAX_REFERENCES = 8192;

const annotations = mapSchema(
  z
    .string()
    .nullish()
    .transform(text => text ?? ''),
);

const knownSchema = z.object({
  artifactType: z.string().max(255).nullish(),
  config: descriptorSchema.nullish(),
  layers: listSchema(descriptorSchema, MAX_REFERENCES).nullish(),
  manifests: listSchema(descriptorSchema, MAX_REFERENCES).nullish(),
  subject: descriptorSchema.nullish(),
  annotations: annotations.nullish(),
});

const descriptorsAmongOthers = z
  .array(z.unknown())
  .catch([])
  .check(atMost(MAX_REFERENCES, 'items'))
  .transform(entries => entries.flatMap(entry => descriptorSchema.safeParse(entry).data ?? []));

const otherSchema = z.object({
  artifactType: z.string().max(255).nullish().catch(undefined),
  config: descriptorSchema.nullish().catch(undefined),
  layers: descriptorsAmongOthers,
  blobs: descriptorsAmongOthers,
  manifests: descriptorsAmongOthers,
  subject: descriptorSchema.nullish().catch(undefined),
  annotations: annotations.nullish().catch(undefined),
});

const typeSchema = z.object({ mediaType: z.string().nullish() });

/**
 * Throws MANIFEST_INVALID for anything but a JSON object, for what `parseManifest` refuses, and where the type is contradictory or unknown.
 */
export function parseDocument(raw: Uint8Array, contentType: string): ManifestDocument {
  const value = parseUtf8(raw);
  const declared = parse(typeSchema, value).mediaType ?? '';
  const mediaType = agreeOnType(contentType.split(';', 1)[0]?.trim() ?? '', declared);
  parseManifest(raw, mediaType);
  const isKnown = isIndexType(mediaType) || isManifestType(mediaType);
  const data = isKnown ? { blobs: [], ...parse(knownSchema, value) } : parse(otherSchema, value);
  const blobs = [...(data.config ? [data.config] : []), ...(data.layers ?? []), ...data.blobs];
  const manifests = data.manifests ?? [];
  if (blobs.length + manifests.length > MAX_REFERENCES) throw invalid(`it has more than ${MAX_REFERENCES} references`);
  return {
    mediaType,
    isKnown,
    blobs,
    manifests,
    subject: data.subject ?? undefined,
    artifactType: data.artifactType || data.config?.mediaType || undefined,
    annotations: data.annotations ?? undefined,
  };
}

/** RFC 6838, section 4.2. */
const MEDIA_TYPE = /^[a-z0-9][a-z0-9!#$&^_.+-]{0,126}\/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}$/i;
const GENERIC_TYPES = [
  'application/json',
  'application/octet-stream',
  'application/x-www-form-urlencoded',
  'text/plain',
];

function agreeOnType(served: string, declared: string): string {
  if (served && declared && served.toLowerCase() !== declared.toLowerCase()) {
    throw invalid(`its mediaType is "${clip(declared)}", but it is pushed with Content-Type "${clip(served)}"`);
  }
  const mediaType = declared || served;
  if (isActiveType(mediaType))
    throw invalid(
      `"${clip(mediaType)}" is not a manifest type: use one that ends in +json, such as ${mediaTypes.ociManifest}`,
    );
  if (MEDIA_TYPE.test(mediaType) && !GENERIC_TYPES.includes(mediaType.toLowerCase())) return mediaType;
  throw invalid(`"${clip(mediaType)}" is too generic: name the manifest's type in mediaType and in Content-Type`);
}

function parseUtf8(raw: Uint8Array): unknown {
  try {
    if (!isUtf8(raw)) throw new InvalidJson('is not UTF-8', { isTooMuch: false });
    return parseJson(raw);
  } catch (cause) {
    if (!(cause instanceof InvalidJson)) throw cause;
    throw invalid(`it ${cause.message}`, cause);
  }
}

function parse<S extends z.ZodType>(schema: S, value: unknown): z.output<S> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw invalid(describeFault(parsed.error), parsed.error);
}

function clip(text: string): string {
  return text.slice(0, 160);
}

function invalid(reason: string, cause?: unknown): RegistryError {
  return new RegistryError('MANIFEST_INVALID', `invalid manifest: ${reason}`, { cause });
}
