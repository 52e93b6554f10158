// An index and everything it points to, nested indexes included: rewrites every image in it, but not yet the indexes.
import pLimit from 'p-limit';
import { type Descriptor, findManifests } from '../oci/descriptor.ts';
import { orUndefined, RegistryError } from '../oci/errors.ts';
import { configPlatform, parseImageConfig } from '../oci/image-config.ts';
import type { ImageIndex, ImageManifest, Manifest } from '../oci/manifest.ts';
import { isIndexType, isManifestType } from '../oci/media-type.ts';
import type { Platform } from '../oci/platform.ts';
import { augmentationFor, choiceOf, chosenPlatforms, isChosen, type Steps } from './augmentation.ts';
import { openManifest } from './document.ts';
import { type AugmentedImage, augmentImage, layersFor } from './image.ts';
import { itemsOf, type Json, membersOf } from './json.ts';
import { isUnknownPlatform, type PlaceOnImage, type SourceReader } from './source.ts';

const MAX_DEPTH = 4;
const MAX_TOTAL_ENTRIES = 512;
/** Everything that is read or generated for one index, held in memory at once. */
const MAX_TOTAL_BYTES = 64 * 1024 * 1024;
const MAX_READS = 16;
const REFERENCE_TYPE = 'vnd.docker.reference.type';

export interface Tree {
  readonly index: ImageIndex;
  /** The index as JSON, ready to edit. */
  readonly json: Json;
  readonly nodes: readonly Node[];
}

/** One entry of an index: its raw descriptor, and its target. */
export type Node = { readonly entry: Json } & (
  | { readonly kind: 'image'; readonly image: AugmentedImage }
  | { readonly kind: 'index'; readonly tree: Tree }
  | { readonly kind: 'unchosen'; readonly platform: Platform }
  | { readonly kind: 'attestation' | 'other' }
);

export interface TreeOptions {
  readonly steps: Steps;
  readonly reader: SourceReader;
  readonly place: PlaceOnImage;
}

/**
 * What an entry points to decides, not what the entry claims: an engine may run anything that is an image. Throws MANIFEST_INVALID for an
 * index that is too deep or too large, or an entry that does not match its target, and whatever augmentImage throws.
 */
export function readTree(index: ImageIndex, { steps, reader, place }: TreeOptions): Promise<Tree> {
  const choice = choiceOf(steps);
  const chosen = chosenPlatforms(choice);
  const budget = createBudget();
  const limit = pLimit(MAX_READS);
  // When one fails, the queued ones need not be read.
  return visit(index, 1).finally(() => limit.clearQueue());

  async function visit(current: ImageIndex, depth: number): Promise<Tree> {
    if (depth > MAX_DEPTH) throw invalid(`its indexes nest deeper than ${MAX_DEPTH}`);
    const manifests = new Set(findManifests(current.manifests));
    budget.addEntries(manifests.size);
    const json = openManifest(current);
    const entries = itemsOf(membersOf(json).get('manifests'));
    const nodes = entries.map(async (entry, i): Promise<Node> => {
      const descriptor = current.entries[i];
      if (typeof descriptor !== 'object') throw invalid(descriptor ?? 'an entry is not a descriptor');
      return manifests.has(descriptor) ? visitEntry(entry, descriptor, depth) : { kind: 'other', entry };
    });
    return { index: current, json, nodes: await Promise.all(nodes) };
  }

  async function visitEntry(entry: Json, descriptor: Descriptor, depth: number): Promise<Node> {
    const { platform, mediaType } = descriptor;
    const isUnknown = platform !== undefined && isUnknownPlatform(platform);
    // Never selected by platform, so never run: reading it would waste a request.
    if (isUnknown && choice.attestations === 'drop') return { kind: 'attestation', entry };
    if (!isUnknown && platform?.architecture && isManifestType(mediaType) && !isChosen(platform, chosen)) {
      return { kind: 'unchosen', entry, platform };
    }
    const manifest = await limit(() => readEntry(descriptor));
    if (!manifest) return { kind: 'other', entry };
    checkEntry(descriptor, manifest);
    if (manifest.kind === 'index') return { kind: 'index', entry, tree: await visit(manifest, depth + 1) };
    if (manifest.kind === 'image') return visitImage(entry, manifest, platform);
    return { kind: isUnknown || descriptor.annotations?.[REFERENCE_TYPE] ? 'attestation' : 'other', entry };
  }

  /** Undefined for entries that are not manifests, such as the layers of a build cache: they cannot be pulled as images. */
  async function readEntry(descriptor: Descriptor): Promise<Manifest | undefined> {
    const { mediaType, size } = descriptor;
    if (isIndexType(mediaType) || isManifestType(mediaType)) {
      budget.addBytes(size);
      return reader.readManifest(descriptor);
    }
    const manifest = await orUndefined(reader.readManifest(descriptor));
    if (manifest) budget.addBytes(size);
    return manifest;
  }

  async function visitImage(entry: Json, manifest: ImageManifest, named: Platform | undefined): Promise<Node> {
    budget.addBytes(manifest.config.size);
    const config = await limit(() => reader.readConfig(manifest.config));
    const platform = named?.architecture ? named : configPlatform(parseImageConfig(config));
    if (!isChosen(platform, chosen)) return { kind: 'unchosen', entry, platform };
    const source = { manifest, config, platform };
    const augmentation = augmentationFor(steps, platform);
    const image = augmentImage(source, augmentation, await place(source, layersFor(augmentation, platform)));
    for (const { size } of image.documents) budget.addBytes(size);
    return { kind: 'image', entry, image };
  }
}

/** All entries in order, with nested indexes flattened in place. */
export function flatten(tree: Tree): readonly Node[] {
  return tree.nodes.flatMap(node => (node.kind === 'index' ? flatten(node.tree) : [node]));
}

/** Otherwise an engine that trusts the entry would run something we take for something else. */
function checkEntry({ digest, mediaType, size }: Descriptor, manifest: Manifest): void {
  if (manifest.raw.byteLength !== size)
    throw invalid(`${digest} does not have the ${size} bytes that its entry claims`);
  if (isIndexType(manifest.mediaType)) return;
  if (isManifestType(manifest.mediaType)) openManifest(manifest);
  else if (isIndexType(mediaType) || isManifestType(mediaType)) {
    throw invalid(`${digest} is ${manifest.mediaType}, but its entry claims ${mediaType}`);
  }
}

function createBudget() {
  let entries = 0;
  let bytes = 0;
  return {
    addEntries(count: number): void {
      entries += count;
      if (entries > MAX_TOTAL_ENTRIES) throw invalid(`it has more than ${MAX_TOTAL_ENTRIES} entries`);
    },
    addBytes(count: number): void {
      bytes += count;
      if (bytes > MAX_TOTAL_BYTES) throw invalid(`it is larger than ${MAX_TOTAL_BYTES} bytes with all its images`);
    },
  };
}

function invalid(reason: string): RegistryError {
  return new RegistryError('MANIFEST_INVALID', `the index cannot be augmented: ${reason}`);
}
