// Rewrites a whole image: an index with all its platforms, or a single image. Pure except for `reader` and `place`, which only fetch
// content by digest.
import type { ContentDescriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { configPlatform, parseImageConfig } from '../oci/image-config.ts';
import type { ImageManifest, Manifest } from '../oci/manifest.ts';
import { isManifestType } from '../oci/media-type.ts';
import { augmentationFor, checkAvailable, choiceOf, chosenPlatforms, type Steps } from './augmentation.ts';
import { type Document, openManifest, unchangedDocument } from './document.ts';
import { type AugmentedImage, augmentImage, layersFor } from './image.ts';
import { type AugmentedIndex, augmentIndex } from './image-index.ts';
import type { TreeOptions } from './image-tree.ts';
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
