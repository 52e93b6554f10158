// Base images: what a name in a Containerfile means, and its bytes, from wherever a pull would have them.
import type { BaseImages } from '../../builds/images.ts';
import { parseReference } from '../../oci/reference.ts';
import { DOCKER_HUB, type Origin, type Origins, resolveReference } from '../origin.ts';
import { createReader } from '../source-reader.ts';

/** The default upstream is for pulls: a Containerfile has to mean the same in every builder. Throws NAME_INVALID, TAG_INVALID, DIGEST_INVALID or DENIED. */
export function locateBase(origins: Origins, text: string): Origin {
  const { registry, repository } = parseReference(text);
  if (registry !== undefined) return origins.locate(registry, repository);
  return origins.findNamed(repository) ?? origins.locate(DOCKER_HUB, repository);
}

export function createBaseImages(origins: Origins): BaseImages {
  return {
    async resolve(text) {
      return resolveReference(locateBase(origins, text), parseReference(text));
    },
    async open(text, digest) {
      const origin = locateBase(origins, text);
      const { registry, repository } = origin;
      return {
        root: await registry.getManifest(repository, digest),
        ...createReader(origin),
        openBlob: async blob => (await registry.getBlob(repository, blob)).open(),
      };
    },
  };
}
