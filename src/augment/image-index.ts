// Rewrites an index: the same entries in the same order, each pointing to its rewritten image. Pure except for the reader.
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import type { ImageIndex } from '../oci/manifest.ts';
import { type Choice, checkAvailable, choiceOf, chosenPlatforms, type Steps } from './augmentation.ts';
import { createDocument, type Document, repoint, unchangedDocument } from './document.ts';
import type { AugmentedImage } from './image.ts';
import { flatten, type Node, readTree, type Tree, type TreeOptions } from './image-tree.ts';
import { itemsOf, type Json, membersOf, toList, toValue, withMembers, withValues } from './json.ts';

const REFERENCE_DIGEST = 'vnd.docker.reference.digest';

export interface AugmentedIndex {
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
export async function augmentIndex(index: ImageIndex, options: TreeOptions): Promise<AugmentedIndex> {
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
