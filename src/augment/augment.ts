// Rewriting a whole image: an index with all its platforms, or one image. Pure but for `read`, which only fetches what digests name.
import type { ContentDescriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import type { Manifest } from '../oci/manifest.ts';
import type { Platform } from '../oci/platform.ts';
import type { Augmentation } from './augmentation.ts';

export interface Source {
  /** Where the image is from, for base.name: registry/repository[:tag]. */
  readonly name: string;
  readonly manifest: Manifest;
}

/** Fetches what an index or manifest points to; throws RegistryError when it cannot be had. */
export interface SourceReader {
  readManifest(descriptor: ContentDescriptor): Promise<Manifest>;
  readConfig(descriptor: ContentDescriptor): Promise<Uint8Array>;
}

/** What an image became. */
export interface Augmented {
  /** What to serve for the tag: an index, or an image. */
  readonly root: ContentDescriptor;
  /** The manifests, indexes and configs that were made; not what stayed as it was. */
  readonly documents: readonly Document[];
  /** Each image of the result with what it was, in the index's order. Equal digests: it stayed as it was. */
  readonly images: readonly { readonly platform: Platform; readonly source: Digest; readonly target: Digest }[];
}

export interface Document extends ContentDescriptor {
  readonly raw: Uint8Array;
}

/**
 * Throws MANIFEST_INVALID for an image that cannot be augmented and MANIFEST_UNKNOWN, naming those there are, for a platform that it
 * lacks: never is anything served plain that was to be changed.
 */
export type Augment = (source: Source, augmentation: Augmentation, reader: SourceReader) => Promise<Augmented>;
