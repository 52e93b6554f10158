// Included images: the layers of another image, each for its platform, to go on top.
import type { Layer } from '../augment/augmentation.ts';
import type { LayerSource } from '../augment/layer-source.ts';
import type { ContentDescriptor } from '../oci/descriptor.ts';
import { isDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { configPlatform, MAX_CONFIG_BYTES, parseImageConfig } from '../oci/image-config.ts';
import type { ImageManifest } from '../oci/manifest.ts';
import { compressionOf } from '../oci/media-type.ts';
import { formatPlatform, normalizePlatform } from '../oci/platform.ts';
import { formatReference, parseReference } from '../oci/reference.ts';
import { type Blobs, readBlob } from './blobs.ts';
import type { Tags } from './freshness.ts';
import type { Manifests } from './manifests.ts';
import type { Origin, Origins } from './origin.ts';

export interface IncludedLayer {
  readonly layer: Layer;
  readonly source: LayerSource;
}

export interface IncludesDeps {
  readonly origins: Origins;
  readonly tags: Tags;
  readonly manifests: Manifests;
  readonly blobs: Blobs;
}

const MAX_DEPTH = 4;

/** The layers of every platform of an image, in its order. Throws RegistryError when it cannot be had or has no layers to include. */
export type ReadIncludes = (image: string) => Promise<readonly IncludedLayer[]>;

export function createIncludes({ origins, tags, manifests, blobs }: IncludesDeps): ReadIncludes {
  async function readImages(
    origin: Origin,
    descriptor: Pick<ContentDescriptor, 'digest'>,
    depth = 0,
  ): Promise<IncludedLayer[]> {
    const manifest = await manifests.get(origin, descriptor.digest);
    if (manifest.kind === 'image') return readLayers(origin, manifest);
    if (manifest.kind === 'other') return [];
    if (depth === MAX_DEPTH) throw new RegistryError('MANIFEST_INVALID', `indexes are nested deeper than ${MAX_DEPTH}`);
    const entries = manifest.manifests.filter(entry => entry.platform?.os !== 'unknown');
    return (await Promise.all(entries.map(entry => readImages(origin, entry, depth + 1)))).flat();
  }

  async function readLayers(origin: Origin, { config, layers, digest }: ImageManifest): Promise<IncludedLayer[]> {
    const parsed = parseImageConfig(await readBlob(await blobs.get(origin, config.digest), MAX_CONFIG_BYTES));
    const platform = formatPlatform(normalizePlatform(configPlatform(parsed)));
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
        source: { ...bytes, kind: 'blob', registry: origin.upstream.name, repository: origin.repository },
      };
    });
  }

  return async image => {
    const reference = parseReference(image);
    const origin = origins.locate(reference.registry, reference.repository);
    const digest = reference.digest ?? (await tags.resolve(origin, reference.tag ?? 'latest'));
    const layers = await readImages(origin, { digest });
    if (layers.length > 0) return layers;
    throw new RegistryError('MANIFEST_INVALID', `${formatReference(reference)} has no layers to include`);
  };
}
