// Included images: appends the layers of another image, each for its platform.
import type { Layer } from '../../augment/augmentation.ts';
import type { LayerSource } from '../../augment/layer-source.ts';
import type { SourceReader } from '../../augment/source.ts';
import { isDigest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { type ImageConfig, parseImageConfig } from '../../oci/image-config.ts';
import type { ImageManifest } from '../../oci/manifest.ts';
import { compressionOf } from '../../oci/media-type.ts';
import { formatPlatform, normalizePlatform } from '../../oci/platform.ts';
import { formatReference, parseReference } from '../../oci/reference.ts';
import { type Candidate, listImages } from '../images.ts';
import { type Origin, type Origins, resolveReference } from '../origin.ts';
import { createReader } from '../source-reader.ts';

interface IncludedLayer {
  readonly layer: Layer;
  readonly source: LayerSource;
}

interface IncludedImage {
  readonly manifest: ImageManifest;
  readonly config: ImageConfig;
  readonly platform: string;
}

/** The layers of every platform of an image, in its order. Throws RegistryError when it is unavailable or has no layers to include. */
export type ReadIncludes = (image: string, signal?: AbortSignal) => Promise<readonly IncludedLayer[]>;

export function createIncludes(origins: Origins): ReadIncludes {
  async function readImage(origin: Origin, { platform, read }: Candidate, reader: SourceReader) {
    const manifest = await read();
    if (manifest.kind !== 'image') return [];
    const config = parseImageConfig(await reader.readConfig(manifest.config));
    return layersOf(origin, { manifest, config, platform: formatPlatform(normalizePlatform(platform)) });
  }

  function layersOf(origin: Origin, { manifest, config, platform }: IncludedImage): readonly IncludedLayer[] {
    return manifest.layers.map((descriptor, position) => {
      const diffId = config.rootfs.diff_ids?.[position];
      const compression = compressionOf(descriptor.mediaType);
      if (!diffId || !isDigest(diffId) || !compression) {
        throw new RegistryError(
          'MANIFEST_INVALID',
          `layer ${position} of the included ${manifest.digest} (${descriptor.mediaType}) cannot be included`,
        );
      }
      const bytes = { digest: descriptor.digest, size: descriptor.size };
      return {
        layer: { ...bytes, diffId, compression, platforms: [platform] },
        source: { ...bytes, kind: 'blob', registry: origin.registry.name, repository: origin.repository },
      };
    });
  }

  return async (image, signal) => {
    const reference = parseReference(image);
    const origin = origins.locate(reference.registry, reference.repository);
    const digest = await resolveReference(origin, reference, { signal });
    const reader = createReader(origin, { signal });
    const images = await listImages(await origin.registry.getManifest(origin.repository, digest), reader);
    const layers = (await Promise.all(images.map(candidate => readImage(origin, candidate, reader)))).flat();
    if (layers.length > 0) return layers;
    throw new RegistryError('MANIFEST_INVALID', `${formatReference(reference)} has no layers to include`);
  };
}
