// A pull: what every way in becomes. Behind it there is one path for plain and augmented images.
import { LRUCache } from 'lru-cache';
import { type Augmented, augment } from '../augment/augment.ts';
import { type Augmentation, augmentationKey } from '../augment/augmentation.ts';
import type { Digest } from '../oci/digest.ts';
import { createFlight } from './flight.ts';
import { type Origin, originName } from './origin.ts';
import { createReader } from './source-reader.ts';

/** An image and what it is to become. */
export interface AugmentedPull {
  readonly origin: Origin;
  /** The source's name, for base.name. */
  readonly sourceName: string;
  readonly sourceDigest: Digest;
  readonly augmentation: Augmentation;
}

export interface Augmentations {
  /** The image as it becomes. Computed once at a time and kept in memory: it can always be computed again, to the same bytes. */
  get(pull: AugmentedPull): Promise<Augmented>;
}

const MEMORY_BYTES = 64 * 1024 * 1024;

export function createAugmentations(): Augmentations {
  const flight = createFlight<Augmented>();
  const memory = new LRUCache<string, Augmented>({ maxSize: MEMORY_BYTES, sizeCalculation: sizeOf });
  // A token's augmentation is one object for many requests.
  const keys = new WeakMap<Augmentation, string>();

  function keyOf(augmentation: Augmentation): string {
    const key = keys.get(augmentation) ?? augmentationKey(augmentation);
    keys.set(augmentation, key);
    return key;
  }

  async function compute({ origin, sourceName, sourceDigest, augmentation }: AugmentedPull): Promise<Augmented> {
    const manifest = await origin.registry.getManifest(origin.repository, sourceDigest);
    return augment({ name: sourceName, manifest }, augmentation, createReader(origin));
  }

  return {
    async get(pull) {
      const key = `${originName(pull.origin)}@${pull.sourceDigest} ${pull.sourceName} ${keyOf(pull.augmentation)}`;
      const known = memory.get(key);
      if (known) return known;
      const augmented = await flight(key, () => compute(pull));
      memory.set(key, augmented);
      return augmented;
    },
  };
}

function sizeOf(augmented: Augmented): number {
  return augmented.documents.reduce((bytes, document) => bytes + document.size, 1);
}
