// Rewrites one image: its config, the appended layers, and the manifest that names both. Pure.
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { familyOf, layerType } from '../oci/media-type.ts';
import { formatPlatform, isSamePlatform, type Platform, parsePlatform } from '../oci/platform.ts';
import type { Augmentation, Layer } from './augmentation.ts';
import { augmentConfig, checkLayerCount } from './config.ts';
import { createDocument, type Document, openManifest, repoint, unchangedDocument } from './document.ts';
import { itemsOf, type Json, membersOf, toJson, toList, withMembers, withValues } from './json.ts';
import type { MovedLayer, PlacedLayer, SourceImage } from './source.ts';

const BASE_DIGEST = 'org.opencontainers.image.base.digest';

/** The most layers that Linux' overlay file system can stack: no engine can run more. */
const MAX_LAYERS = 500;
/** The most layers that docker's engine accepts, with overlay2. */
const MAX_DOCKER_LAYERS = 125;

export interface AugmentedImage {
  readonly platform: Platform;
  readonly source: Digest;
  /** The manifest; the source's own when nothing changes. */
  readonly target: Document;
  /** The new manifest and config. */
  readonly documents: readonly Document[];
  /** Warnings about what an engine may do with it that the author may not expect, one sentence each. */
  readonly warnings: readonly string[];
  /** Which of the new layers were moved to follow the image's links. */
  readonly moved: readonly MovedLayer[];
}

/** `placed` are the layers for its platform. Throws MANIFEST_INVALID for an image that cannot be augmented. */
export function augmentImage(
  image: SourceImage,
  augmentation: Augmentation,
  placed: readonly PlacedLayer[],
): AugmentedImage {
  const { manifest, platform } = image;
  checkWorkingDir(augmentation, platform);
  const json = openManifest(manifest);
  const layers = placed.map(({ layer }) => layer);
  const annotations = familyOf(manifest.mediaType) === 'oci' ? augmentation.annotations : undefined;
  const configJson = augmentConfig(image.config, augmentation, layers);
  const moved = placed.flatMap(each => each.moved ?? []);
  const common = { platform, source: manifest.digest, warnings: warningsOf(image, augmentation, layers), moved };
  if (!configJson && !annotations) return { ...common, target: unchangedDocument(manifest), documents: [] };
  checkLayers(image, layers.length);
  const config = configJson && createDocument(manifest.config.mediaType, configJson);
  const target = createDocument(manifest.mediaType, rewriteManifest(json, image, { config, layers, annotations }));
  return { ...common, target, documents: config ? [config, target] : [target] };
}

/** A layer without platforms is a Linux layer: Windows layers have another structure (`Files/`, `Hives/`), and are accepted as they are. */
export function layersFor({ layers }: Pick<Augmentation, 'layers'>, platform: Platform): readonly Layer[] {
  return layers.filter(
    ({ platforms }) =>
      platforms?.some(name => isSamePlatform(parsePlatform(name), platform)) ?? platform.os !== 'windows',
  );
}

/** Other systems take a Windows path as relative, and engines refuse to start a container there. */
function checkWorkingDir({ workingDir = '/' }: Augmentation, platform: Platform): void {
  if (workingDir.startsWith('/') || platform.os === 'windows') return;
  const reason = `workingDir: ${workingDir} is not an absolute path on ${formatPlatform(platform)}; use one such as /opt/tool`;
  throw new RegistryError('MANIFEST_INVALID', `the image cannot be augmented: ${reason}`);
}

function warningsOf({ manifest, platform }: SourceImage, { layers }: Augmentation, got: readonly Layer[]): string[] {
  const name = formatPlatform(platform);
  const total = manifest.layers.length + got.length;
  const isLeftOut = platform.os === 'windows' && layers.some(({ platforms }) => platforms === undefined);
  return [
    ...(isLeftOut ? [`${name} gets only layers that name it in their platforms: Linux layers do not fit it`] : []),
    ...(got.length > 0 && total > MAX_DOCKER_LAYERS
      ? [
          `${name} now has ${total} layers, more than the ${MAX_DOCKER_LAYERS} that docker's engine accepts; containerd and podman accept more`,
        ]
      : []),
  ];
}

function checkLayers({ config, manifest }: SourceImage, added: number): void {
  const { length } = manifest.layers;
  checkLayerCount(config, length);
  if (added === 0 || length + added <= MAX_LAYERS) return;
  throw new RegistryError(
    'MANIFEST_INVALID',
    `the image cannot be augmented: ${added} layers on top of its ${length} exceed the ${MAX_LAYERS} that can be mounted`,
  );
}

interface Changes {
  /** Absent where it is unchanged. */
  readonly config: Document | undefined;
  readonly layers: readonly Layer[];
  readonly annotations: Readonly<Record<string, string>> | undefined;
}

function rewriteManifest(source: Json, image: SourceImage, { config, layers, annotations }: Changes): Json {
  const members = membersOf(source);
  const descriptor = members.get('config');
  const added = layers.map(layer => toJson(layerDescriptor(layer, image)));
  const isOci = familyOf(image.manifest.mediaType) === 'oci';
  return withMembers(source, {
    config: config && descriptor && repoint(descriptor, config),
    layers: toList([...itemsOf(members.get('layers')), ...added]),
    annotations: isOci ? annotate(members.get('annotations'), image, annotations) : undefined,
  });
}

function annotate(source: Json | undefined, image: SourceImage, annotations: Changes['annotations']): Json {
  // The source's name is left out: with it, the same image requested by another name would get another digest.
  const base = membersOf(source).has(BASE_DIGEST) ? {} : { [BASE_DIGEST]: image.manifest.digest };
  return withValues(source, { ...base, ...annotations });
}

function layerDescriptor({ compression, digest, size }: Layer, { manifest, platform }: SourceImage): object {
  const mediaType = layerType(familyOf(manifest.mediaType), compression);
  if (mediaType) return { mediaType, digest, size };
  throw new RegistryError(
    'MANIFEST_INVALID',
    `the ${formatPlatform(platform)} image cannot be augmented: it has a Docker manifest (schema 2), which has no media type for the ` +
      `${compression} layer ${digest}; compress the layer with gzip instead`,
  );
}
