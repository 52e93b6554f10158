// Manifests and indexes: parsed for a look, kept as bytes. image-spec manifest.md and image-index.md.
import { z } from 'zod';
import { type Descriptor, descriptorSchema } from './descriptor.ts';
import { type Digest, digestOf } from './digest.ts';
import { RegistryError } from './errors.ts';
import { isImageConfigType, isIndexType, isManifestType, isSchema1Type, mediaTypes } from './media-type.ts';

/** The largest manifest that we read, in bytes: the limit that distribution-spec asks registries to have at least. */
export const MAX_MANIFEST_BYTES = 4 * 1024 * 1024;

/** `raw` is the truth: it is what `digest` is of, what is served, and what an edit starts from. */
interface Document {
  readonly raw: Uint8Array;
  readonly digest: Digest;
  readonly mediaType: string;
}

export interface ImageManifest extends Document {
  readonly kind: 'image';
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
}

export interface ImageIndex extends Document {
  readonly kind: 'index';
  readonly manifests: readonly Descriptor[];
}

/** Anything else that a registry keeps: an artifact's manifest, or a type that we do not know. Never rewritten. */
export interface OtherManifest extends Document {
  readonly kind: 'other';
}

export type Manifest = ImageManifest | ImageIndex | OtherManifest;

const documentSchema = z.object({
  schemaVersion: z.number().optional(),
  mediaType: z.string().nullish(),
  artifactType: z.string().nullish(),
  config: z.unknown().optional(),
  layers: z.unknown().optional(),
  manifests: z.unknown().optional(),
  fsLayers: z.unknown().optional(),
});

const MAX_ENTRIES = 4096;
const descriptorsSchema = z.array(descriptorSchema).max(MAX_ENTRIES);

/**
 * Parses a manifest from its bytes and the Content-Type it came with.
 * Throws MANIFEST_INVALID when it is not JSON, too large, of schema 1, or ambiguous: a document that is both an index and an
 * image, or whose mediaType denies its Content-Type, can mean different things to different clients (CVE-2021-41190).
 */
export function parseManifest(raw: Uint8Array, contentType: string): Manifest {
  if (raw.byteLength > MAX_MANIFEST_BYTES) throw invalid(`larger than ${MAX_MANIFEST_BYTES} bytes`);
  const served = contentType.split(';', 1)[0]?.trim().toLowerCase() ?? '';
  if (isSchema1Type(served)) throw schema1();
  if (isKnownType(served) || isGeneric(served)) return parseKnown(raw, served);
  return { kind: 'other', raw, digest: digestOf(raw), mediaType: served };
}

function parseKnown(raw: Uint8Array, served: string): Manifest {
  const document = documentSchema.safeParse(parseJson(raw));
  if (!document.success) throw invalid('not an object as the specification wants it', document.error);
  const { data } = document;
  if (data.schemaVersion === 1 || data.fsLayers !== undefined || isSchema1Type(data.mediaType ?? '')) throw schema1();
  if (data.manifests !== undefined && (data.layers !== undefined || data.config !== undefined)) {
    throw invalid(
      'it has "manifests" beside "layers" or "config": it cannot be told whether it is an index or an image',
    );
  }
  if (data.mediaType && isKnownType(served) && data.mediaType !== served) {
    throw invalid(`its mediaType is ${data.mediaType}, but it is served as ${served}`);
  }
  const base = { raw, digest: digestOf(raw) };
  const declared = data.mediaType || (isKnownType(served) ? served : '');
  if (data.manifests !== undefined && !isManifestType(declared)) {
    const mediaType = declared || mediaTypes.ociIndex;
    if (!isIndexType(mediaType)) return { ...base, kind: 'other', mediaType };
    return { ...base, kind: 'index', mediaType, manifests: descriptors(data.manifests, 'manifests') };
  }
  if (data.config !== undefined && data.layers !== undefined && !isIndexType(declared))
    return parseImage(base, data, declared);
  if (isKnownType(declared)) throw invalid(`it lacks the fields of ${declared}`);
  return { ...base, kind: 'other', mediaType: declared || served || 'application/octet-stream' };
}

function parseImage(
  base: { raw: Uint8Array; digest: Digest },
  data: z.infer<typeof documentSchema>,
  declared: string,
): Manifest {
  const config = descriptorSchema.safeParse(data.config);
  if (!config.success) throw invalid('"config" is not a descriptor', config.error);
  const isDocker = config.data.mediaType === mediaTypes.dockerConfig;
  const mediaType = declared || (isDocker ? mediaTypes.dockerManifest : mediaTypes.ociManifest);
  const isImage = isManifestType(mediaType) && isImageConfigType(config.data.mediaType) && !data.artifactType;
  if (!isImage) return { ...base, kind: 'other', mediaType };
  return { ...base, kind: 'image', mediaType, config: config.data, layers: descriptors(data.layers, 'layers') };
}

function isKnownType(mediaType: string): boolean {
  return isIndexType(mediaType) || isManifestType(mediaType);
}

/** Types that say nothing about the document: some registries serve every manifest as one of these. */
function isGeneric(mediaType: string): boolean {
  return ['', 'application/json', 'text/plain', 'application/octet-stream'].includes(mediaType);
}

function descriptors(value: unknown, field: string): readonly Descriptor[] {
  const parsed = descriptorsSchema.safeParse(value ?? []);
  if (!parsed.success) throw invalid(`"${field}" is not a list of at most ${MAX_ENTRIES} descriptors`, parsed.error);
  return parsed.data;
}

function parseJson(raw: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(raw));
  } catch (cause) {
    throw invalid('not JSON', cause);
  }
}

function invalid(reason: string, cause?: unknown): RegistryError {
  return new RegistryError('MANIFEST_INVALID', `invalid manifest: ${reason}`, { cause });
}

function schema1(): RegistryError {
  return invalid('Docker image manifest schema 1 has no config to work on; push the image anew with a current client');
}
