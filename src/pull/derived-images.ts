// Pulls of plain and augmented images: every entry point uses this one path.
import { type Augmented, augment, type Document } from '../augment/augment.ts';
import { type Augmentation, augmentationKey, layersOfAll, type Steps, stepsKey } from '../augment/augmentation.ts';
import type { LayerSource } from '../augment/layer-source.ts';
import { createProvenance, type Provenance } from '../augment/provenance.ts';
import { onEachImage, type PlaceOnImage, type SourceReader } from '../augment/source.ts';
import { createSingleFlight } from '../cache/read-through/single-flight.ts';
import type { Memory } from '../memory.ts';
import type { Digest } from '../oci/digest.ts';
import type { Placing } from './layers/placing.ts';
import { type Origin, originName } from './origin.ts';
import { createDocumentLimit, createReader } from './source-reader.ts';

/** A source image and its augmentation. */
export interface Derivation {
  readonly origin: Origin;
  /** The source's name, for its provenance. */
  readonly sourceName: string;
  readonly sourceDigest: Digest;
  readonly steps: Steps;
  /** The locations of all their layers. */
  readonly layerSources: readonly LayerSource[];
  /** Layers that came with the current request, and are not stored yet. */
  readonly storedLayers?: ReadonlyMap<Digest, Uint8Array> | undefined;
}

/** A derived image, with all documents derived for it. */
export interface DerivedImage extends Augmented {
  readonly provenance: readonly Provenance[];
  /** The documents, including provenance. */
  readonly derived: ReadonlyMap<Digest, Document>;
  /** Moved layers, by digest. */
  readonly moved: ReadonlyMap<Digest, LayerSource>;
}

export interface Augmentations {
  /**
   * Derives the image. Computed once at a time and cached in memory: it can always be derived again, with the same bytes. Aborted when all
   * callers have left.
   */
  get(pull: Derivation, signal?: AbortSignal): Promise<DerivedImage>;
}

/** The media type of a manifest known by its digest only. */
const ANY_TYPE = 'application/octet-stream';

/** What the image was derived from: it must not be evicted while the image is in memory. */
interface CachedImage {
  readonly image: DerivedImage;
  readonly sources: ReadonlySet<Digest>;
}

export function createAugmentations(options: {
  readonly placing: Placing;
  readonly memory: Memory;
  /** Called with everything that a cached image was derived from, on each use. */
  readonly onUsed?: (digest: Digest) => void;
  /** Called for each image that is served. */
  readonly onServed?: ((steps: Steps) => void) | undefined;
  /** Called for each image that was derived, or could not be, unless all its callers have left. */
  readonly onDerived?: ((derivation: { readonly durationMs: number; readonly hasFailed: boolean }) => void) | undefined;
  /** Called with warnings about an image for the operator of the rules, each time it is derived. */
  readonly onWarning?: (image: string, warning: string) => void;
}): Augmentations {
  const {
    placing,
    memory,
    onUsed = () => {},
    onServed = () => {},
    onDerived = () => {},
    onWarning = () => {},
  } = options;
  const flight = createSingleFlight<CachedImage>();
  const documentLimit = createDocumentLimit();
  const images = memory.openCache<CachedImage>();
  // The augmentation of a token is the same object in many requests.
  const keys = new WeakMap<Augmentation, string>();

  function keyOf(augmentation: Augmentation): string {
    const key = keys.get(augmentation) ?? augmentationKey(augmentation);
    keys.set(augmentation, key);
    return key;
  }

  async function timed(pull: Derivation, signal: AbortSignal): Promise<CachedImage> {
    const begunAt = performance.now();
    const report = (hasFailed: boolean) => onDerived({ durationMs: performance.now() - begunAt, hasFailed });
    try {
      const known = await compute(pull, signal);
      report(false);
      return known;
    } catch (error) {
      if (!signal.aborted) report(true);
      throw error;
    }
  }

  async function compute(pull: Derivation, signal: AbortSignal): Promise<CachedImage> {
    const { origin, sourceName, sourceDigest, steps, layerSources, storedLayers } = pull;
    const place: PlaceOnImage = (image, layers) =>
      placing.placeLayers({ origin, image, layers, layerSources, storedLayers, signal });
    const sources = new Set<Digest>();
    const over = new AbortController();
    const added = { layers: layersOfAll(steps), layerSources, storedLayers };
    const reading = { ...added, signal: AbortSignal.any([signal, over.signal]) };
    const source = onEachImage(createReader(origin, { onRead: digest => sources.add(digest), signal }), image => {
      if (added.layers.length > 0) placing.readAhead(origin, image, reading);
    });
    const derive = async (reader: SourceReader) => {
      const manifest = await reader.readManifest({ mediaType: ANY_TYPE, digest: sourceDigest, size: 0 });
      return augment(manifest, steps, { reader, place });
    };
    const augmented = await documentLimit.run(source, derive).finally(() => over.abort());
    for (const warning of augmented.images.flatMap(({ warnings }) => warnings)) onWarning(sourceName, warning);
    const provenance = createProvenance({ name: sourceName, digest: sourceDigest }, augmented, steps);
    const all = [...augmented.documents, ...provenance.flatMap(({ documents }) => documents)];
    const derived = new Map(all.map(document => [document.digest, document]));
    const moved = new Map(augmented.images.flatMap(image => image.moved.map(({ source }) => [source.digest, source])));
    return { image: { ...augmented, provenance, derived, moved }, sources };
  }

  return {
    async get(pull, signal) {
      const { scope = '' } = pull.origin.registry;
      const source = `${originName(pull.origin)}#${scope}@${pull.sourceDigest}`;
      const key = `${source} ${pull.sourceName} ${stepsKey(pull.steps, keyOf)}`;
      const known = images.get(key);
      for (const digest of known?.sources ?? []) onUsed(digest);
      if (known) {
        onServed(pull.steps);
        return known.image;
      }
      const computed = await flight(key, stop => timed(pull, stop), signal);
      images.set(key, computed);
      onServed(pull.steps);
      return computed.image;
    },
  };
}
