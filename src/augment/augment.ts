// Rewriting a whole image: an index with all its platforms, or one image. Pure but for `read`, which only fetches what digests name.
import type { ContentDescriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { configPlatform, parseImageConfig } from '../oci/image-config.ts';
import type { ImageManifest } from '../oci/manifest.ts';
import type { Platform } from '../oci/platform.ts';
import type { Augmentation } from './augmentation.ts';
import { checkAvailable, chosenPlatforms } from './choice.ts';
import type { Document } from './document.ts';
import { type AugmentedImage, augmentImage, isArtifact } from './image.ts';
import { augmentIndex } from './image-index.ts';
import type { TreeOptions } from './image-tree.ts';
import { isUnknownPlatform, type Source, type SourceReader } from './source.ts';

export type { Document, Source, SourceReader };

/** What an image became. */
export interface Augmented {
  /** What to serve for the tag: an index, or an image. */
  readonly root: ContentDescriptor;
  /** The manifests, indexes and configs that were made; not what stayed as it was. */
  readonly documents: readonly Document[];
  /** Each image of the result with what it was, in the index's order. Equal digests: it stayed as it was. */
  readonly images: readonly { readonly platform: Platform; readonly source: Digest; readonly target: Digest }[];
}

/**
 * Throws MANIFEST_INVALID for an image that cannot be augmented and MANIFEST_UNKNOWN, naming those there are, for a platform that it
 * lacks: never is anything served plain that was to be changed. Artifacts and attestations are no images and stay as they are.
 */
export type Augment = (source: Source, augmentation: Augmentation, reader: SourceReader) => Promise<Augmented>;

export const augment: Augment = async ({ name, manifest }, augmentation, reader) => {
  const options = { name, augmentation, reader };
  if (manifest.kind === 'index') {
    const { root, documents, images } = await augmentIndex(manifest, options);
    return result(root, documents, images);
  }
  const image = manifest.kind === 'image' ? await augmentSingle(manifest, options) : undefined;
  return image
    ? result(image.target, image.documents, [image])
    : result({ ...manifest, size: manifest.raw.byteLength }, [], []);
};

/** Undefined for what only looks like an image. */
async function augmentSingle(manifest: ImageManifest, options: TreeOptions): Promise<AugmentedImage | undefined> {
  if (isArtifact(manifest)) return undefined;
  const config = await options.reader.readConfig(manifest.config);
  const platform = configPlatform(parseImageConfig(config));
  if (isUnknownPlatform(platform)) return undefined;
  checkAvailable(chosenPlatforms(options.augmentation), [platform]);
  return augmentImage({ name: options.name, manifest, config, platform }, options.augmentation);
}

function result(
  { mediaType, digest, size }: ContentDescriptor,
  documents: readonly Document[],
  images: readonly AugmentedImage[],
): Augmented {
  return {
    root: { mediaType, digest, size },
    documents: [...new Map(documents.map(document => [document.digest, document])).values()],
    images: images.map(({ platform, source, target }) => ({ platform, source, target: target.digest })),
  };
}
