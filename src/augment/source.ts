// How the rewriter reads its input.
import type { ContentDescriptor } from '../oci/descriptor.ts';
import type { ImageManifest, Manifest } from '../oci/manifest.ts';
import type { Platform } from '../oci/platform.ts';
import type { Layer } from './augmentation.ts';
import type { MovedLayerSource } from './layer-source.ts';
import type { MovedEntry } from './moved-layer.ts';

/** Fetches what an index or manifest points to; throws RegistryError when it is unavailable. */
export interface SourceReader {
  readManifest(descriptor: ContentDescriptor & { readonly platform?: Platform | undefined }): Promise<Manifest>;
  readConfig(descriptor: ContentDescriptor): Promise<Uint8Array>;
}

/** A complete source image. */
export interface SourceImage {
  readonly manifest: ImageManifest;
  /** The bytes of its config. */
  readonly config: Uint8Array;
  readonly platform: Platform;
}

/**
 * Moves layers to follow the links of an image, which are looked up by the digests of its layers: the same image and layers give the same
 * result. Throws RegistryError where the links cannot be determined.
 */
export type PlaceOnImage = (image: SourceImage, layers: readonly Layer[]) => Promise<readonly PlacedLayer[]>;

/** A layer as appended to an image. */
export interface PlacedLayer {
  readonly layer: Layer;
  /** Absent where it is unchanged. */
  readonly moved?: MovedLayer | undefined;
}

export interface MovedLayer {
  /** The moved layer, with the original as its `inner`. */
  readonly source: MovedLayerSource;
  /** The first moved entries, for display. */
  readonly entries: readonly MovedEntry[];
  /** How many were moved. */
  readonly count: number;
}

/** Attestations are listed under this platform, so that no client runs them. */
export function isUnknownPlatform({ os, architecture }: Platform): boolean {
  return os === 'unknown' && architecture === 'unknown';
}

/** Calls `onImage` with each image that is read, before its config is, unless its index says that it is not one of Linux. */
export function onEachImage(reader: SourceReader, onImage: (image: ImageManifest) => void): SourceReader {
  return {
    ...reader,
    async readManifest(descriptor) {
      const manifest = await reader.readManifest(descriptor);
      const { os = 'linux' } = descriptor.platform ?? {};
      if (manifest.kind === 'image' && os === 'linux') onImage(manifest);
      return manifest;
    },
  };
}
