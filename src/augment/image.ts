// Rewrites one image: its config, the appended layers, and the manifest that names both. Pure.
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { parseImageConfig } from '../oci/image-config.ts';
import { familyOf, layerType } from '../oci/media-type.ts';
import { formatPlatform, isSamePlatform, type Platform, parsePlatform } from '../oci/platform.ts';
import type { Augmentation, Layer } from './augmentation.ts';
import {
  CONFIG,
  checkNames,
  createDocument,
  type Document,
  openManifest,
  repoint,
  unchangedDocument,
} from './document.ts';
import { itemsOf, type Json, membersOf, parseJson, toJson, toList, toValue, withMembers, withValues } from './json.ts';
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

// Rewrites an image config: what a container runs, and the list of its layers. image-spec config.md.

/** The variable that preserves a replaced entrypoint for the new one. */
const ENTRY_CHAIN = 'WAVE_ENTRY_CHAIN';

/** The timestamp of our history entries where the source has none: the current time would change the bytes on each run. */
const EPOCH = '1970-01-01T00:00:00Z';

/**
 * The config with the augmentation applied and `layers` appended; undefined when nothing changes. Throws MANIFEST_INVALID when `raw` is not
 * an image config, or is ambiguous JSON.
 */
export function augmentConfig(raw: Uint8Array, augmentation: Augmentation, layers: readonly Layer[]): Json | undefined {
  parseImageConfig(raw);
  const source = parseJson(raw);
  checkNames(source, CONFIG);
  const changesConfig = changesRun(augmentation);
  if (!changesConfig && layers.length === 0) return undefined;
  const members = membersOf(source);
  return withMembers(source, {
    config: changesConfig ? augmentRun(members.get('config'), augmentation) : undefined,
    rootfs: layers.length > 0 ? extendRootfs(members.get('rootfs'), layers) : undefined,
    history: extendHistory(members, layers.length, changesConfig),
  });
}

/** Throws MANIFEST_INVALID unless the config has as many diffIDs as its manifest has layers: otherwise nothing can be appended. */
function checkLayerCount(raw: Uint8Array, count: number): void {
  const diffIds = parseImageConfig(raw).rootfs.diff_ids?.length ?? 0;
  if (diffIds === count) return;
  throw new RegistryError(
    'MANIFEST_INVALID',
    `the image cannot be augmented: its config has ${diffIds} diff_ids, but its manifest ${count} layers`,
  );
}

function changesRun(augmentation: Augmentation): boolean {
  const { platforms, layers, annotations, attestations, ...changes } = augmentation;
  return Object.values(changes).some(change => change !== undefined);
}

function augmentRun(run: Json | undefined, augmentation: Augmentation): Json {
  const members = membersOf(run);
  const { entrypoint, cmd, workingDir, user, labels, exposedPorts } = augmentation;
  const env = { ...entryChain(members.get('Entrypoint'), augmentation), ...augmentation.env };
  const ports = Object.fromEntries((exposedPorts ?? []).map(port => [port, {}]));
  return withMembers(run, {
    Env: Object.keys(env).length > 0 ? overrideEnv(itemsOf(members.get('Env')), env) : undefined,
    Entrypoint: entrypoint && toJson(entrypoint),
    Cmd: cmd && toJson(cmd),
    WorkingDir: workingDir === undefined ? undefined : toJson(workingDir),
    User: user === undefined ? undefined : toJson(user),
    Labels: labels && withValues(members.get('Labels'), labels),
    ExposedPorts: exposedPorts && withValues(members.get('ExposedPorts'), ports),
  });
}

function entryChain(entrypoint: Json | undefined, augmentation: Augmentation): Record<string, string> {
  const word = toValue(entrypoint);
  const replaced = typeof word === 'string' ? [word] : itemsOf(entrypoint).map(toValue);
  if (!augmentation.entrypoint || replaced.length === 0) return {};
  return { [ENTRY_CHAIN]: replaced.length === 1 ? String(replaced[0]) : JSON.stringify(replaced) };
}

function overrideEnv(source: readonly Json[], env: Readonly<Record<string, string>>): Json {
  const nameOf = (entry: Json) => String(toValue(entry)).split('=', 1)[0] ?? '';
  const entryOf = (name: string) => toJson(`${name}=${env[name]}`);
  const present = new Set(source.map(nameOf));
  const overridden = source.map(entry => (Object.hasOwn(env, nameOf(entry)) ? entryOf(nameOf(entry)) : entry));
  const added = Object.keys(env).filter(name => !present.has(name));
  return toList([...overridden, ...added.map(entryOf)]);
}

function extendRootfs(rootfs: Json | undefined, layers: readonly Layer[]): Json {
  const diffIds = itemsOf(membersOf(rootfs).get('diff_ids'));
  const type = toValue(membersOf(rootfs).get('type')) ?? 'layers';
  return withMembers(rootfs, {
    type: toJson(type),
    diff_ids: toList([...diffIds, ...layers.map(({ diffId }) => toJson(diffId))]),
  });
}

/** A source that has layers but no history stays without one: entries for only some layers would be attributed to the lowest ones. */
function extendHistory(
  source: ReadonlyMap<string, Json>,
  layerCount: number,
  changesConfig: boolean,
): Json | undefined {
  const history = itemsOf(source.get('history'));
  const hasLayers = itemsOf(membersOf(source.get('rootfs')).get('diff_ids')).length > 0;
  const listsLayers = history.some(entry => membersOf(entry).get('empty_layer')?.text !== 'true');
  // Only Go clients accept null as a list.
  if (hasLayers && !listsLayers) return source.get('history')?.text === 'null' ? toList([]) : undefined;
  const written = toValue(source.get('created'));
  const created = typeof written === 'string' ? written : EPOCH;
  const entry = { created, created_by: 'veneer' };
  const added = Array.from({ length: layerCount }, () => ({ ...entry, comment: 'layer' }));
  const config = changesConfig ? [{ ...entry, comment: 'config', empty_layer: true }] : [];
  return toList([...history, ...[...added, ...config].map(toJson)]);
}
