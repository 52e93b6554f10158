// Rewriting an index: the same entries in the same order, each pointing to what its image became. Pure but for the reader.
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import type { ImageIndex } from '../oci/manifest.ts';
import type { Augmentation } from './augmentation.ts';
import { checkAvailable, chosenPlatforms } from './choice.ts';
import { createDocument, type Document, encodeObject, type JsonObject, objectIn, repoint } from './document.ts';
import type { AugmentedImage } from './image.ts';
import { flatten, type Node, readTree, type Tree, type TreeOptions } from './image-tree.ts';

const REFERENCE_DIGEST = 'vnd.docker.reference.digest';

export interface AugmentedIndex {
  /** The index; the image itself when one platform was chosen. */
  readonly root: Document;
  /** The indexes, manifests and configs that were made. */
  readonly documents: readonly Document[];
  readonly images: readonly AugmentedImage[];
}

/** Throws MANIFEST_UNKNOWN when the index lacks a chosen platform or has no image, MANIFEST_INVALID when it cannot be augmented. */
export async function augmentIndex(index: ImageIndex, options: TreeOptions): Promise<AugmentedIndex> {
  const tree = await readTree(index, options);
  const nodes = flatten(tree);
  const chosen = chosenPlatforms(options.augmentation);
  checkAvailable(chosen, nodes.flatMap(platformOf));
  const images = nodes.flatMap(node => (node.kind === 'image' ? [node.image] : []));
  const [first] = images;
  if (!first) throw new RegistryError('MANIFEST_UNKNOWN', 'the index has no image to augment');
  if (chosen?.length === 1) return { root: first.target, documents: first.documents, images: [first] };

  const rewriting = createRewriting(images, options.augmentation);
  const root = chosen ? rewriting.rewrite({ ...tree, nodes }) : rewriting.rewrite(tree);
  return { root, documents: [...images.flatMap(image => image.documents), ...rewriting.documents], images };
}

function platformOf(node: Node) {
  if (node.kind === 'image') return [node.image.platform];
  return node.kind === 'unchosen' ? [node.platform] : [];
}

function createRewriting(images: readonly AugmentedImage[], augmentation: Augmentation) {
  const targets = new Map<unknown, Digest>(images.map(({ source, target }) => [source, target.digest]));
  const changes = images.some(({ source, target }) => source !== target.digest);
  const documents: Document[] = [];
  return { documents, rewrite };

  /** The index with what its nodes became; its own bytes when that is what they were. */
  function rewrite({ index, json, nodes }: Tree): Document {
    const entries = nodes.flatMap(rewriteNode);
    const source = Array.isArray(json.manifests) ? json.manifests : [];
    const isSame = entries.length === source.length && entries.every((entry, i) => entry === source[i]);
    if (isSame) return { mediaType: index.mediaType, digest: index.digest, size: index.raw.byteLength, raw: index.raw };
    const document = createDocument(index.mediaType, encodeObject({ ...json, manifests: entries }));
    documents.push(document);
    return document;
  }

  function rewriteNode(node: Node): readonly JsonObject[] {
    switch (node.kind) {
      case 'image':
        return [pointTo(node.entry, node.image.target)];
      case 'index':
        return [pointTo(node.entry, rewrite(node.tree))];
      case 'attestation':
        return rewriteAttestation(node.entry);
      case 'other':
        return augmentation.platforms ? [] : [node.entry];
      case 'unchosen':
        return [];
    }
  }

  function rewriteAttestation(entry: JsonObject): readonly JsonObject[] {
    // While no image changes and none is left out, the attestations still tell the truth.
    if (!changes && !augmentation.platforms) return [entry];
    if (augmentation.attestations === 'drop') return [];
    const annotations = objectIn(entry, 'annotations');
    const target = targets.get(annotations[REFERENCE_DIGEST]);
    if (!target) return augmentation.platforms ? [] : [entry];
    if (target === annotations[REFERENCE_DIGEST]) return [entry];
    return [{ ...entry, annotations: { ...annotations, [REFERENCE_DIGEST]: target } }];
  }
}

function pointTo(entry: JsonObject, { mediaType, digest, size }: Document): JsonObject {
  return entry.digest === digest ? entry : repoint(entry, { mediaType, digest, size });
}
