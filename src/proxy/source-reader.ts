// How an augmentation reads the documents of an image: its manifests and image configs, from the repository that it is in.
import type { SourceReader } from '../augment/source.ts';
import type { Digest } from '../oci/digest.ts';
import type { Origin } from './origin.ts';

/** Its functions throw what the registry throws. `onRead` hears of all that is read. */
export function createReader(
  { registry, repository }: Origin,
  onRead: (digest: Digest) => void = () => {},
): SourceReader {
  return {
    readManifest({ digest }) {
      onRead(digest);
      return registry.getManifest(repository, digest);
    },
    readConfig(descriptor) {
      onRead(descriptor.digest);
      return registry.readConfig(repository, descriptor);
    },
  };
}
