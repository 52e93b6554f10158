// What rules made of the images of a repository, found by digest: made again where it is not in memory, to the same bytes.
import type { Document } from '../../augment/augment.ts';
import type { LayerSource } from '../../augment/layer-source.ts';
import type { Digest } from '../../oci/digest.ts';
import type { DerivedDigests, Made } from '../../rules/derived-digests.ts';
import type { Augmentations, AugmentedPull, MadeImage } from '../derived-images.ts';
import { type Origin, originName } from '../origin.ts';

interface MadeImages {
  /** From now on the image, with all that it leads to, is found by its digests. */
  keep(pull: AugmentedPull, image: MadeImage): Promise<void>;
  /** The image that has the digest, or that a part of its has; undefined for what rules did not make. Throws the error of its source. */
  find(origin: Origin, digest: Digest): Promise<MadeImage | undefined>;
  /** Whether it is a manifest that such an image has from its source as it was. The rest of the source is not asked for. */
  isKept(origin: Origin, digest: Digest): Promise<boolean>;
  /** A manifest, a config, or a part of the provenance that was made. */
  findDocument(origin: Origin, digest: Digest): Promise<Document | undefined>;
  /** A layer of a rule. The image's source is asked for only where it is not open to all who may pull: then throws its error. */
  findLayer(origin: Origin, digest: Digest): Promise<LayerSource | undefined>;
}

interface MadeImagesDeps {
  readonly made: DerivedDigests;
  readonly augmentations: Augmentations;
}

export function createMadeImages({ made, augmentations }: MadeImagesDeps): MadeImages {
  async function find(origin: Origin, digest: Digest): Promise<MadeImage | undefined> {
    const found = await made.find(originName(origin), digest);
    return found && augmentations.get(pullOf(origin, found));
  }

  return {
    find,
    async keep({ origin: { registry, repository }, sourceName, sourceDigest, steps, layerSources }, image) {
      const place = { registry: registry.name, repository };
      const root = image.root.digest;
      const moved = [...image.moved.values()];
      const layers = [...layerSources, ...moved].map(layer => layer.digest);
      const kept = [...image.kept];
      const members = [...image.made.keys(), ...kept, ...layers];
      const movedLayers = moved.length > 0 ? { movedLayers: moved } : {};
      await made.keep({ ...place, sourceName, sourceDigest, steps, layerSources, root, kept, ...movedLayers }, members);
    },
    async isKept(origin, digest) {
      const { kept = [] } = (await made.find(originName(origin), digest)) ?? {};
      return kept.includes(digest);
    },
    findDocument: async (origin, digest) => (await find(origin, digest))?.made.get(digest),
    async findLayer(origin, digest) {
      const { layerSources = [], movedLayers = [] } = (await made.find(originName(origin), digest)) ?? {};
      const layer = [...layerSources, ...movedLayers].find(each => each.digest === digest);
      if (layer && origin.registry.scope !== undefined) await find(origin, digest);
      return layer;
    },
  };
}

function pullOf(origin: Origin, { sourceName, sourceDigest, steps, layerSources }: Made): AugmentedPull {
  return { origin, sourceName, sourceDigest, steps, layerSources };
}
