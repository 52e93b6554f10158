// Layers on images: as they are given, where no links are looked for, and the real way.
import type { PlaceOnImage } from '../../src/augment/source.ts';
import type { ContentStore } from '../../src/content/store.ts';
import { createMemory } from '../../src/memory.ts';
import { createLayerIndexes } from '../../src/pull/layers/layer-indexes.ts';
import { createLayers, type LayersDeps } from '../../src/pull/layers/layers.ts';
import { createPlacing, type Placing } from '../../src/pull/layers/placing.ts';
import type { RecordStore } from '../../src/state/store.ts';

const memory = createMemory();

export const INDEX_LIMITS = { maxUnpackedBytes: 1024 ** 3, maxRatio: 200, maxEntries: 100_000 };

export const placeOnImageAsGiven: PlaceOnImage = async (_, layers) => layers.map(layer => ({ layer }));

export const placingAsGiven: Placing = {
  placeLayers: async ({ layers }) => layers.map(layer => ({ layer })),
  readAhead() {},
};

/** Layers, and how they are placed. */
export function createPlacedLayers(
  deps: Omit<LayersDeps, 'limits'> & { readonly records: RecordStore; readonly content: ContentStore },
) {
  const { content, records } = deps;
  const layers = createLayers({ ...deps, limits: INDEX_LIMITS });
  const now = () => new Date();
  const indexes = createLayerIndexes({ memory, records, now, limits: INDEX_LIMITS });
  return { layers, placing: createPlacing({ memory, indexes, layers, content, records, now, waitMs: 60_000 }) };
}
