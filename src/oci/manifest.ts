// Manifests and indexes: parsed for reading, retained as bytes. image-spec manifest.md and image-index.md.
import { isUtf8 } from 'node:buffer';
import { z } from 'zod';
import { type Descriptor, descriptorSchema } from './descriptor.ts';
import { type Digest, digestOf } from './digest.ts';
import { RegistryError } from './errors.ts';
import { describeFault, InvalidJson, parseJson } from './json.ts';
import {
  isGenericType,
  isImageConfigType,
  isIndexType,
  isLayerType,
  isManifestType,
  isSchema1Type,
  mediaTypes,
} from './media-type.ts';

/** The largest manifest that we read, in bytes: the minimum limit that distribution-spec asks of registries. */
export const MAX_MANIFEST_BYTES = 4 * 1024 * 1024;

/** `raw` is authoritative: `digest` is computed from it, it is served, and edits start from it. */
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
  /** The entries that are descriptors. */
  readonly manifests: readonly Descriptor[];
  /** All entries in order; for an entry that is not a descriptor, its error. It does not affect the others. */
  readonly entries: readonly (Descriptor | string)[];
}

/** Anything else in a registry: an artifact's manifest, or an unknown type. Never rewritten. */
interface OtherManifest extends Document {
  readonly kind: 'other';
}

export type Manifest = ImageManifest | ImageIndex | OtherManifest;

const documentSchema = z.object({
  schemaVersion: z.number().nullish(),
  mediaType: z.string().nullish(),
  config: z.unknown().optional(),
  layers: z.unknown().optional(),
  manifests: z.unknown().optional(),
  fsLayers: z.unknown().optional(),
});

const MAX_ENTRIES = 4096;

/**
 * Parses a manifest from its bytes and the Content-Type it was served with. `digest` is the one that the bytes were verified against, if
 * any. Throws MANIFEST_INVALID when it is not JSON, too large, of schema 1, or ambiguous: a document that is both an index and an image, or
 * whose mediaType contradicts its Content-Type, can mean different things to different clients (CVE-2021-41190).
 */
export function parseManifest(raw: Uint8Array, contentType: string, digest: Digest = digestOf(raw)): Manifest {
  if (raw.byteLength > MAX_MANIFEST_BYTES) throw invalid(`larger than ${MAX_MANIFEST_BYTES} bytes`);
  const served = contentType.split(';', 1)[0]?.trim().toLowerCase() ?? '';
  if (isSchema1Type(served)) throw schema1();
  if (isKnownType(served) || !served.startsWith('application/vnd.')) return parseKnown({ raw, digest }, served);
  return { kind: 'other', raw, digest, mediaType: served };
}

type Content = Pick<Document, 'raw' | 'digest'>;

function parseKnown(content: Content, served: string): Manifest {
  const document = documentSchema.safeParse(parseUtf8(content.raw));
  if (!document.success) throw invalid(describeFault(document.error), document.error);
  const { data } = document;
  const mediaType = data.mediaType ?? '';
  if (data.schemaVersion === 1 || (data.fsLayers ?? undefined) !== undefined || isSchema1Type(mediaType))
    throw schema1();
  if (data.manifests !== undefined && (data.layers !== undefined || data.config !== undefined)) {
    throw invalid(
      'it has "manifests" as well as "layers" or "config": it is ambiguous whether it is an index or an image',
    );
  }
  if (mediaType && isKnownType(served) && mediaType !== served) {
    throw invalid(`its mediaType is ${mediaType}, but it is served as ${served}`);
  }
  const declared = mediaType || (isKnownType(served) ? served : '');
  if (data.config !== undefined && data.layers !== undefined && !isIndexType(declared))
    return parseImage(content, data, declared);
  if (data.manifests !== undefined && !isManifestType(declared)) {
    const type = declared || mediaTypes.ociIndex;
    if (!isIndexType(type)) return { ...content, kind: 'other', mediaType: type };
    return parseIndex(content, data.manifests, type);
  }
  if (isKnownType(declared)) throw invalid(`it lacks required fields of ${declared}`);
  return { ...content, kind: 'other', mediaType: declared || served || 'application/octet-stream' };
}

function parseIndex(content: Content, value: unknown, mediaType: string): ImageIndex {
  const entries = listIn('manifests', value).map((entry, at) => {
    const { data, error } = descriptorSchema.safeParse(entry);
    return data ?? describeFault(error, ['manifests', at]);
  });
  const manifests = entries.filter(entry => typeof entry !== 'string');
  return { ...content, kind: 'index', mediaType, manifests, entries };
}

function listIn(field: string, value: unknown): readonly unknown[] {
  if (value === null) return [];
  if (Array.isArray(value) && value.length <= MAX_ENTRIES) return value;
  throw invalid(`"${field}" is not a list of at most ${MAX_ENTRIES} descriptors`);
}

function parseImage(content: Content, data: z.infer<typeof documentSchema>, declared: string): Manifest {
  const config = descriptorSchema.safeParse(data.config);
  if (!config.success) throw invalid(describeFault(config.error, ['config']), config.error);
  const isDocker = config.data.mediaType === mediaTypes.dockerConfig;
  const mediaType = declared || (isDocker ? mediaTypes.dockerManifest : mediaTypes.ociManifest);
  if (!isManifestType(mediaType) || !mayRun(config.data)) return { ...content, kind: 'other', mediaType };
  const layers = descriptors(data.layers, 'layers');
  if (!isRunnable(config.data, layers)) return { ...content, kind: 'other', mediaType };
  return { ...content, kind: 'image', mediaType, config: config.data, layers };
}

/** Whether some engine accepts such a config as an image's, whatever the artifactType: docker's accepts one of a generic type. */
function mayRun({ mediaType }: Descriptor): boolean {
  return isImageConfigType(mediaType) || isGenericType(mediaType);
}

/** Carriers such as signatures and attestations may have an image's config, but have layers of their own types. */
function isRunnable(config: Descriptor, layers: readonly Descriptor[]): boolean {
  const types = layers.map(({ mediaType }) => mediaType);
  if (!isImageConfigType(config.mediaType)) return types.some(isLayerType);
  return types.length === 0 || types.some(type => isLayerType(type) || isGenericType(type));
}

function isKnownType(mediaType: string): boolean {
  return isIndexType(mediaType) || isManifestType(mediaType);
}

/** Up to the first error. */
function descriptors(value: unknown, field: string): readonly Descriptor[] {
  return listIn(field, value).map((entry, at) => {
    const { data, error } = descriptorSchema.safeParse(entry);
    if (data) return data;
    throw invalid(describeFault(error, [field, at]), error);
  });
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

function invalid(reason: string, cause?: unknown): RegistryError {
  return new RegistryError('MANIFEST_INVALID', `invalid manifest: ${reason}`, { cause });
}

function schema1(): RegistryError {
  return invalid('Docker image manifest schema 1 is not supported; push the image again with a current client');
}
