// Rewrites a whole image: an index with all its platforms, or a single image. Pure except for `reader` and `place`, which only fetch
// content by digest.
import type { ContentDescriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { configPlatform, parseImageConfig } from '../oci/image-config.ts';
import type { ImageIndex, ImageManifest, Manifest } from '../oci/manifest.ts';
import { isManifestType } from '../oci/media-type.ts';
import { augmentationFor, type Choice, checkAvailable, choiceOf, chosenPlatforms, type Steps } from './augmentation.ts';
import { createDocument, type Document, openManifest, repoint, unchangedDocument } from './document.ts';
import { type AugmentedImage, augmentImage, layersFor } from './image.ts';
import { flatten, type Node, readTree, type Tree, type TreeOptions } from './image-tree.ts';
import { itemsOf, type Json, membersOf, toList, toValue, withMembers, withValues } from './json.ts';
import type { PlaceOnImage, SourceReader } from './source.ts';

export type { Document };

/** The result of augmenting an image. */
export interface Augmented {
  /** What the tag resolves to: an index or an image. */
  readonly root: ContentDescriptor;
  /** The new manifests, indexes and configs; unchanged ones are not included. */
  readonly documents: readonly Document[];
  /** The images and indexes of the result that are unchanged. */
  readonly unchanged: ReadonlySet<Digest>;
  /** Each image of the result with its source, in the order of the index. Equal digests: unchanged. */
  readonly images: readonly ImageOutcome[];
}

export interface ImageOutcome extends Pick<AugmentedImage, 'platform' | 'source' | 'warnings' | 'moved'> {
  readonly target: Digest;
}

/**
 * Throws MANIFEST_INVALID for an image that cannot be augmented, and MANIFEST_UNKNOWN, listing the available platforms, for a platform that
 * is missing. An image that should change is never served unchanged. Artifacts are not images and stay unchanged.
 */
type Augment = (source: Manifest, steps: Steps, reading: AugmentReading) => Promise<Augmented>;

interface AugmentReading {
  readonly reader: SourceReader;
  readonly place: PlaceOnImage;
}

export const augment: Augment = async (manifest, steps, { reader, place }) => {
  const options = { steps, reader, place };
  if (manifest.kind === 'index') return result(await augmentIndex(manifest, options));
  if (manifest.kind === 'image') {
    const image = await augmentSingle(manifest, options);
    return result({ root: image.target, documents: image.documents, unchanged: [], images: [image] });
  }
  // Some clients may treat it as an image.
  if (isManifestType(manifest.mediaType)) openManifest(manifest);
  return result({ root: unchangedDocument(manifest), documents: [], unchanged: [], images: [] });
};

async function augmentSingle(manifest: ImageManifest, { steps, reader, place }: TreeOptions): Promise<AugmentedImage> {
  const config = await reader.readConfig(manifest.config);
  const platform = configPlatform(parseImageConfig(config));
  checkAvailable(chosenPlatforms(choiceOf(steps)), [platform]);
  const source = { manifest, config, platform };
  const augmentation = augmentationFor(steps, platform);
  return augmentImage(source, augmentation, await place(source, layersFor(augmentation, platform)));
}

function result({ root, documents, unchanged, images }: AugmentedIndex): Augmented {
  const { mediaType, digest, size } = root;
  const untouched = images.filter(({ source, target }) => source === target.digest);
  return {
    root: { mediaType, digest, size },
    documents: [...new Map(documents.map(document => [document.digest, document])).values()],
    unchanged: new Set([...unchanged, ...untouched.map(({ source }) => source)]),
    images: images.map(({ platform, source, target, warnings, moved }) => ({
      ...{ platform, source, warnings, moved },
      target: target.digest,
    })),
  };
}

// Rewrites an index: the same entries in the same order, each pointing to its rewritten image. Pure except for the reader.

const REFERENCE_DIGEST = 'vnd.docker.reference.digest';

interface AugmentedIndex {
  /** The index, or the image itself when one platform was selected. */
  readonly root: Document;
  /** The new indexes, manifests and configs. */
  readonly documents: readonly Document[];
  /** The unchanged indexes. */
  readonly unchanged: readonly Digest[];
  readonly images: readonly AugmentedImage[];
}

/**
 * Throws MANIFEST_UNKNOWN when the index lacks a selected platform or has no image, MANIFEST_INVALID when it cannot be augmented. An index
 * of artifacts only, which some clients push under a tag, is left unchanged by rules, since these match every name.
 */
async function augmentIndex(index: ImageIndex, options: TreeOptions): Promise<AugmentedIndex> {
  const tree = await readTree(index, options);
  const nodes = flatten(tree);
  const choice = choiceOf(options.steps);
  const chosen = chosenPlatforms(choice);
  checkAvailable(chosen, nodes.flatMap(platformOf));
  const images = nodes.flatMap(node => (node.kind === 'image' ? [node.image] : []));
  const [first] = images;
  if (!first && !isLeftUnchanged(nodes, options.steps)) throw noImage();
  if (first && chosen?.length === 1)
    return { root: first.target, documents: first.documents, unchanged: [], images: [first] };

  const rewriting = createRewriting(images, choice);
  const root = chosen ? rewriting.rewrite({ ...tree, nodes }) : rewriting.rewrite(tree);
  const documents = [...images.flatMap(image => image.documents), ...rewriting.documents];
  return { root, documents, unchanged: rewriting.unchangedIndexes, images };
}

function isLeftUnchanged(nodes: readonly Node[], steps: Steps): boolean {
  return nodes.every(({ kind }) => kind === 'other') && steps.every(({ rule }) => rule !== undefined);
}

function platformOf(node: Node) {
  if (node.kind === 'image') return [node.image.platform];
  return node.kind === 'unchosen' ? [node.platform] : [];
}

function createRewriting(images: readonly AugmentedImage[], choice: Choice) {
  const targets = new Map<unknown, Digest>(images.map(({ source, target }) => [source, target.digest]));
  const changes = images.some(({ source, target }) => source !== target.digest);
  const unchanged = new Set<unknown>(images.flatMap(({ source, target }) => (source === target.digest ? source : [])));
  const documents: Document[] = [];
  const unchangedIndexes: Digest[] = [];
  return { documents, unchangedIndexes, rewrite };

  /** The index with its rewritten entries; the original bytes when nothing changed. */
  function rewrite({ index, json, nodes }: Tree): Document {
    const entries = nodes.flatMap(rewriteNode);
    const source = itemsOf(membersOf(json).get('manifests'));
    const isSame = entries.length === source.length && entries.every((entry, i) => entry === source[i]);
    if (isSame) {
      unchangedIndexes.push(index.digest);
      return unchangedDocument(index);
    }
    const document = createDocument(index.mediaType, withMembers(json, { manifests: toList(entries) }));
    documents.push(document);
    return document;
  }

  function rewriteNode(node: Node): readonly Json[] {
    switch (node.kind) {
      case 'image':
        return [pointTo(node.entry, node.image.target)];
      case 'index':
        return [pointTo(node.entry, rewrite(node.tree))];
      case 'attestation':
        return rewriteAttestation(node.entry);
      case 'other':
        return choice.platforms ? [] : [node.entry];
      case 'unchosen':
        return [];
    }
  }

  function rewriteAttestation(entry: Json): readonly Json[] {
    // As long as no image is changed or removed, the attestations remain true.
    if (!changes && !choice.platforms) return [entry];
    const annotations = membersOf(entry).get('annotations');
    const subject = toValue(membersOf(annotations).get(REFERENCE_DIGEST));
    const isTrue = unchanged.has(subject);
    // An index of selected platforms has exactly those: attestations are removed, not kept as entries.
    if (choice.attestations === 'drop') return isTrue && !choice.platforms ? [entry] : [];
    if (isTrue) return [entry];
    const target = targets.get(subject);
    if (!target) return choice.platforms ? [] : [entry];
    return [withMembers(entry, { annotations: withValues(annotations, { [REFERENCE_DIGEST]: target }) })];
  }
}

function pointTo(entry: Json, target: Document): Json {
  return toValue(membersOf(entry).get('digest')) === target.digest ? entry : repoint(entry, target);
}

function noImage(): RegistryError {
  return new RegistryError('MANIFEST_UNKNOWN', 'the index has no image to augment');
}
