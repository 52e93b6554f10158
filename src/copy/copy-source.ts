// The source of a copy: an image, unchanged or augmented.
import { type Augmentation, augmentationSchema } from '../augment/augmentation.ts';
import type { LayerSource } from '../augment/layer-source.ts';
import type { CopySpec } from '../builds/spec.ts';
import type { Blob } from '../cache/read-through/cached.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import type { Manifest } from '../oci/manifest.ts';
import { createAugmentedRegistry, createImageOverlay } from '../pull/augmented-registry.ts';
import type { Augmentations } from '../pull/derived-images.ts';
import type { Layers } from '../pull/layers/layers.ts';
import type { Origin, Origins } from '../pull/origin.ts';

/** What to apply to the source. */
export type Changes = NonNullable<CopySpec['changes']>;

/** Every function throws RegistryError. */
export interface CopySource {
  readonly root: Manifest;
  readManifest(digest: Digest): Promise<Manifest>;
  getBlob(digest: Digest): Promise<Blob>;
  /** The repository with a blob; undefined for one that is in none. */
  originOf(descriptor: Descriptor): Origin | undefined;
}

export interface CopiedImage {
  readonly origin: Origin;
  /** For its provenance. */
  readonly name: string;
  readonly digest: Digest;
  /** Absent: all. One gives its image, several an index of exactly those. */
  readonly platforms?: readonly string[] | undefined;
  readonly changes?: Changes | undefined;
}

export interface CopySourceDeps {
  readonly origins: Origins;
  readonly augmentations: Augmentations;
  readonly layers: Layers;
}

/** Throws RegistryError where the image is unavailable, cannot be changed, or lacks a platform. */
export async function openCopySource(image: CopiedImage, deps: CopySourceDeps): Promise<CopySource> {
  const { registry, repository } = image.origin;
  const plain: CopySource = {
    root: await registry.getManifest(repository, image.digest),
    readManifest: digest => registry.getManifest(repository, digest),
    getBlob: digest => registry.getBlob(repository, digest),
    originOf: () => image.origin,
  };
  return image.changes || image.platforms ? change(plain, image, deps) : plain;
}

async function change(
  plain: CopySource,
  { origin, name, digest, platforms, changes }: CopiedImage,
  { origins, augmentations, layers }: CopySourceDeps,
): Promise<CopySource> {
  const { repository } = origin;
  const augmentation = choose(changes?.augmentation, platforms);
  const layerSources = changes?.layerSources ?? [];
  const derivation = { origin, sourceName: name, sourceDigest: digest, steps: [{ augmentation }], layerSources };
  const image = await augmentations.get(derivation);
  const registry = createAugmentedRegistry(
    origin.registry,
    createImageOverlay(async () => image, layerSources),
    layers,
  );
  const added = new Map([...layerSources, ...image.moved.values()].map(source => [source.digest, source]));
  return {
    root: await registry.getManifest(repository, image.root.digest),
    readManifest: wanted => registry.getManifest(repository, wanted),
    getBlob: wanted => registry.getBlob(repository, wanted),
    originOf(descriptor) {
      const layer = added.get(descriptor.digest);
      if (layer) return originOfLayer(layer, origins);
      return image.derived.has(descriptor.digest) ? undefined : plain.originOf(descriptor);
    },
  };
}

function choose(augmentation: Augmentation | undefined, platforms: readonly string[] | undefined): Augmentation {
  const chosen = augmentation ?? augmentationSchema.parse({});
  return platforms ? { ...chosen, platforms: [...platforms] } : chosen;
}

function originOfLayer(layer: LayerSource, origins: Origins): Origin | undefined {
  return layer.kind === 'blob' ? origins.locate(layer.registry, layer.repository) : undefined;
}
