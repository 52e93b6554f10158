// How the parts of what is rewritten are had.
import type { ContentDescriptor } from '../oci/descriptor.ts';
import type { ImageManifest, Manifest } from '../oci/manifest.ts';
import type { Platform } from '../oci/platform.ts';
import type { Layer } from './augmentation.ts';
import type { MovedLayerSource } from './layer-source.ts';
import type { MovedEntry } from './moved-layer.ts';

/** Fetches what an index or manifest points to; throws RegistryError when it cannot be had. */
export interface SourceReader {
  readManifest(descriptor: ContentDescriptor): Promise<Manifest>;
  readConfig(descriptor: ContentDescriptor): Promise<Uint8Array>;
}

/** An image as it is, whole. */
export interface SourceImage {
  readonly manifest: ImageManifest;
  /** The bytes of its config. */
  readonly config: Uint8Array;
  readonly platform: Platform;
}

/**
 * Puts layers where the links of an image lead, which are found by the digests of its layers: the same image and layers give the same. Throws
 * RegistryError where that cannot be known.
 */
export type PlaceOnImage = (image: SourceImage, layers: readonly Layer[]) => Promise<readonly PlacedLayer[]>;

/** A layer as an image gets it. */
export interface PlacedLayer {
  readonly layer: Layer;
  /** Absent where it stays as it was given. */
  readonly moved?: MovedLayer | undefined;
}

export interface MovedLayer {
  /** The layer as it became, with the one that was given as its `inner`. */
  readonly source: MovedLayerSource;
  /** The first of what lies elsewhere now, for people. */
  readonly entries: readonly MovedEntry[];
  /** How many there are. */
  readonly count: number;
}

/** Attestations are filed under this platform, so that no client runs them. */
export function isUnknownPlatform({ os, architecture }: Platform): boolean {
  return os === 'unknown' && architecture === 'unknown';
}
