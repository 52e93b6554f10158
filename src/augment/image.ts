// Rewriting one image: its config, the layers on top, and the manifest that names both. Pure.
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import type { ImageManifest } from '../oci/manifest.ts';
import { familyOf, layerType } from '../oci/media-type.ts';
import { formatPlatform, isSamePlatform, type Platform, parsePlatform } from '../oci/platform.ts';
import type { Augmentation, Layer } from './augmentation.ts';
import { augmentConfig, checkLayerCount } from './config.ts';
import {
  createDocument,
  type Document,
  encodeObject,
  type JsonObject,
  listIn,
  objectIn,
  parseObject,
  repoint,
} from './document.ts';

const BASE_NAME = 'org.opencontainers.image.base.name';
const BASE_DIGEST = 'org.opencontainers.image.base.digest';

export interface SourceImage {
  /** Where it is from, for base.name. */
  readonly name: string;
  readonly manifest: ImageManifest;
  /** The bytes of its config. */
  readonly config: Uint8Array;
  readonly platform: Platform;
}

export interface AugmentedImage {
  readonly platform: Platform;
  readonly source: Digest;
  /** The manifest: the source's own when nothing changes. */
  readonly target: Document;
  /** The manifest and config that were made. */
  readonly documents: readonly Document[];
}

/** Throws MANIFEST_INVALID for an image that cannot be augmented. */
export function augmentImage(image: SourceImage, augmentation: Augmentation): AugmentedImage {
  const { manifest, platform } = image;
  const layers = augmentation.layers.filter(layer => isFor(layer, platform));
  const annotations = familyOf(manifest.mediaType) === 'oci' ? augmentation.annotations : undefined;
  const configRaw = augmentConfig(image.config, augmentation, layers);
  if (configRaw === image.config && !annotations) return untouched(image);

  checkLayerCount(image.config, manifest.layers.length);
  const config = createDocument(manifest.config.mediaType, configRaw);
  const target = createDocument(
    manifest.mediaType,
    encodeObject(rewriteManifest(image, { config, layers, annotations })),
  );
  const made = configRaw === image.config ? [target] : [config, target];
  return { platform, source: manifest.digest, target, documents: made };
}

/**
 * Whether an image manifest only carries something else, as signatures and attestations do: none of its layers is a layer of a file
 * system.
 */
export function isArtifact({ layers }: ImageManifest): boolean {
  return layers.length > 0 && layers.every(({ mediaType }) => mediaType !== '' && !FILE_SYSTEM.test(mediaType));
}

const FILE_SYSTEM = /\.image\.(?:layer|rootfs)\./;

function isFor(layer: Layer, platform: Platform): boolean {
  return layer.platforms?.some(name => isSamePlatform(parsePlatform(name), platform)) ?? true;
}

function untouched({ manifest, platform }: SourceImage): AugmentedImage {
  const { digest, mediaType, raw } = manifest;
  const target = { mediaType, digest, size: raw.byteLength, raw };
  return { platform, source: digest, target, documents: [] };
}

interface Changes {
  readonly config: Document;
  readonly layers: readonly Layer[];
  readonly annotations: Readonly<Record<string, string>> | undefined;
}

function rewriteManifest(image: SourceImage, { config, layers, annotations }: Changes): JsonObject {
  const source = parseObject(image.manifest.raw);
  const { digest, size } = config;
  const isSameConfig = digest === image.manifest.config.digest;
  const configDescriptor = objectIn(source, 'config');
  return {
    ...source,
    config: isSameConfig ? configDescriptor : repoint(configDescriptor, { digest, size }),
    layers: [...listIn(source, 'layers'), ...layers.map(layer => layerDescriptor(layer, image))],
    ...(familyOf(image.manifest.mediaType) === 'oci' && {
      annotations: annotate(objectIn(source, 'annotations'), image, annotations),
    }),
  };
}

function annotate(source: JsonObject, image: SourceImage, annotations: Changes['annotations']): JsonObject {
  const base = { [BASE_NAME]: image.name, [BASE_DIGEST]: image.manifest.digest };
  const absent = Object.entries(base).filter(([name]) => !Object.hasOwn(source, name));
  return { ...source, ...Object.fromEntries(absent), ...annotations };
}

function layerDescriptor({ compression, digest, size }: Layer, { manifest, platform }: SourceImage): JsonObject {
  const mediaType = layerType(familyOf(manifest.mediaType), compression);
  if (mediaType) return { mediaType, digest, size };
  throw new RegistryError(
    'MANIFEST_INVALID',
    `the ${formatPlatform(platform)} image cannot be augmented: it has a Docker manifest (schema 2), which has no media type for the ` +
      `${compression} layer ${digest}; give the layer packed with gzip`,
  );
}
