// An index with all that it points to, nested indexes too: every image in it rewritten, the indexes themselves not yet.
import type { Descriptor } from '../oci/descriptor.ts';
import { RegistryError } from '../oci/errors.ts';
import { configPlatform, parseImageConfig } from '../oci/image-config.ts';
import type { ImageIndex, ImageManifest } from '../oci/manifest.ts';
import { isManifestType } from '../oci/media-type.ts';
import type { Platform } from '../oci/platform.ts';
import type { Augmentation } from './augmentation.ts';
import { chosenPlatforms, isChosen } from './choice.ts';
import { isObject, type JsonObject, listIn, parseObject } from './document.ts';
import { type AugmentedImage, augmentImage, isArtifact } from './image.ts';
import { isUnknownPlatform, type SourceReader } from './source.ts';

const MAX_DEPTH = 4;
const MAX_TOTAL_ENTRIES = 512;
const REFERENCE_TYPE = 'vnd.docker.reference.type';

export interface Tree {
  readonly index: ImageIndex;
  /** The index as JSON, for an edit. */
  readonly json: JsonObject;
  readonly nodes: readonly Node[];
}

/** One entry of an index: its raw descriptor, and what it points to. */
export type Node = { readonly entry: JsonObject } & (
  | { readonly kind: 'image'; readonly image: AugmentedImage }
  | { readonly kind: 'index'; readonly tree: Tree }
  | { readonly kind: 'unchosen'; readonly platform: Platform }
  | { readonly kind: 'attestation' | 'other' }
);

export interface TreeOptions {
  readonly name: string;
  readonly augmentation: Augmentation;
  readonly reader: SourceReader;
}

/** Throws MANIFEST_INVALID for an index that nests too deep or has too many entries, and what augmentImage throws. */
export function readTree(index: ImageIndex, options: TreeOptions): Promise<Tree> {
  const chosen = chosenPlatforms(options.augmentation);
  let total = 0;
  return visit(index, 1);

  async function visit(current: ImageIndex, depth: number): Promise<Tree> {
    total += current.manifests.length;
    if (depth > MAX_DEPTH) throw invalid(`its indexes nest deeper than ${MAX_DEPTH}`);
    if (total > MAX_TOTAL_ENTRIES) throw invalid(`it has more than ${MAX_TOTAL_ENTRIES} entries`);
    const json = parseObject(current.raw);
    const entries = listIn(json, 'manifests').filter(isObject);
    const nodes = entries.map((entry, i) => visitEntry(entry, current.manifests[i], depth));
    return { index: current, json, nodes: await Promise.all(nodes) };
  }

  async function visitEntry(entry: JsonObject, descriptor: Descriptor | undefined, depth: number): Promise<Node> {
    if (!descriptor) throw invalid('an entry is no descriptor');
    if (isAttestation(descriptor)) return { kind: 'attestation', entry };
    const { platform, mediaType } = descriptor;
    if (platform?.architecture && isManifestType(mediaType) && !isChosen(platform, chosen)) {
      return { kind: 'unchosen', entry, platform };
    }
    const manifest = await options.reader.readManifest(descriptor);
    if (manifest.kind === 'index') return { kind: 'index', entry, tree: await visit(manifest, depth + 1) };
    if (manifest.kind === 'other' || isArtifact(manifest)) return { kind: 'other', entry };
    return visitImage(entry, manifest, platform);
  }

  async function visitImage(entry: JsonObject, manifest: ImageManifest, named: Platform | undefined): Promise<Node> {
    const config = await options.reader.readConfig(manifest.config);
    const platform = named?.architecture ? named : configPlatform(parseImageConfig(config));
    if (isUnknownPlatform(platform)) return { kind: 'attestation', entry };
    if (!isChosen(platform, chosen)) return { kind: 'unchosen', entry, platform };
    const image = { name: options.name, manifest, config, platform };
    return { kind: 'image', entry, image: augmentImage(image, options.augmentation) };
  }
}

/** All entries in order, those of nested indexes in the place of these. */
export function flatten(tree: Tree): readonly Node[] {
  return tree.nodes.flatMap(node => (node.kind === 'index' ? flatten(node.tree) : [node]));
}

function isAttestation({ annotations, platform }: Descriptor): boolean {
  return annotations?.[REFERENCE_TYPE] !== undefined || (platform !== undefined && isUnknownPlatform(platform));
}

function invalid(reason: string): RegistryError {
  return new RegistryError('MANIFEST_INVALID', `the index cannot be augmented: ${reason}`);
}
