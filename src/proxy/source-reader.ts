// How an augmentation reads the documents of an image: its manifests and image configs, from the repository that it is in.
import type { SourceReader } from '../augment/source.ts';
import type { Origin } from './origin.ts';

/** Its functions throw what the registry throws. */
export function createReader({ registry, repository }: Origin): SourceReader {
  return {
    readManifest: ({ digest }) => registry.getManifest(repository, digest),
    readConfig: descriptor => registry.readConfig(repository, descriptor),
  };
}
