// Included images: the layers of another image, each for its platform, to go on top.
import type { Layer } from '../../augment/augmentation.ts';
import type { LayerSource } from '../../augment/layer-source.ts';
import { isDigest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { parseImageConfig } from '../../oci/image-config.ts';
import type { ImageManifest } from '../../oci/manifest.ts';
import { compressionOf } from '../../oci/media-type.ts';
import { formatPlatform, normalizePlatform } from '../../oci/platform.ts';
import { formatReference, parseReference } from '../../oci/reference.ts';
import { type Candidate, listImages } from '../images.ts';
import { type Origin, type Origins, resolveReference } from '../origin.ts';
import { createReader } from '../source-reader.ts';

export interface IncludedLayer {
  readonly layer: Layer;
  readonly source: LayerSource;
}

/** The layers of every platform of an image, in its order. Throws RegistryError when it cannot be had or has no layers to include. */
export type ReadIncludes = (image: string) => Promise<readonly IncludedLayer[]>;

export function createIncludes(origins: Origins): ReadIncludes {
  async function readImage(origin: Origin, { platform, read }: Candidate): Promise<readonly IncludedLayer[]> {
    const manifest = await read();
    return manifest.kind === 'image' ? readLayers(origin, manifest, formatPlatform(normalizePlatform(platform))) : [];
  }

  async function readLayers(
    origin: Origin,
    { config, layers, digest }: ImageManifest,
    platform: string,
  ): Promise<readonly IncludedLayer[]> {
    const parsed = parseImageConfig(await createReader(origin).readConfig(config));
    return layers.map((descriptor, position) => {
      const diffId = parsed.rootfs.diff_ids?.[position];
      const compression = compressionOf(descriptor.mediaType);
      if (!diffId || !isDigest(diffId) || !compression) {
        throw new RegistryError(
          'MANIFEST_INVALID',
          `layer ${position} of the included ${digest} (${descriptor.mediaType}) cannot be taken over`,
        );
      }
      const bytes = { digest: descriptor.digest, size: descriptor.size };
      return {
        layer: { ...bytes, diffId, compression, platforms: [platform] },
        source: { ...bytes, kind: 'blob', registry: origin.registry.name, repository: origin.repository },
      };
    });
  }

  return async image => {
    const reference = parseReference(image);
    const origin = origins.locate(reference.registry, reference.repository);
    const digest = await resolveReference(origin, reference);
    const images = await listImages(await origin.registry.getManifest(origin.repository, digest), createReader(origin));
    const layers = (await Promise.all(images.map(candidate => readImage(origin, candidate)))).flat();
    if (layers.length > 0) return layers;
    throw new RegistryError('MANIFEST_INVALID', `${formatReference(reference)} has no layers to include`);
  };
}
