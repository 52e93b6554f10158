// Places layers on an image, moved to follow the image's own links. The links are read from the image's layers, with the rights of the
// pull; a moved layer is derived once, and can be derived again at any time, with the same bytes.
import { z } from 'zod';
import type { Layer } from '../../augment/augmentation.ts';
import { createSizedDigester } from '../../augment/layer.ts';
import { hasDirectories, type LayerIndex } from '../../augment/layer-index.ts';
import { type LayerSource, locationOfBytes, type MovedLayerSource } from '../../augment/layer-source.ts';
import { createLinkTree } from '../../augment/link-tree.ts';
import { listMoved } from '../../augment/moved-layer.ts';
import type { Placement } from '../../augment/placement.ts';
import type { MovedLayer, PlacedLayer, SourceImage } from '../../augment/source.ts';
import { UnreadableLayer } from '../../augment/unpack-layer.ts';
import { bestEffort, bytesBlob } from '../../cache/read-through/cached.ts';
import { createSingleFlight } from '../../cache/read-through/single-flight.ts';
import { type ContentStore, StorageFailure } from '../../content/store.ts';
import type { Memory } from '../../memory.ts';
import type { Descriptor } from '../../oci/descriptor.ts';
import { type Digest, digestOf, isDigest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import type { ImageManifest } from '../../oci/manifest.ts';
import { ContentMismatch } from '../../oci/verify.ts';
import { createCollection } from '../../state/collection.ts';
import type { RecordStore } from '../../state/store.ts';
import { type Origin, originName } from '../origin.ts';
import type { LayerIndexes, PlacedBlob } from './layer-indexes.ts';
import type { Layers } from './layers.ts';

/** Layers to place on an image of `origin`. */
interface PlacingRequest extends AddedLayers {
  readonly origin: Origin;
  readonly image: SourceImage;
  /** Aborts when all callers have left. */
  readonly signal?: AbortSignal | undefined;
}

interface AddedLayers {
  readonly layers: readonly Layer[];
  readonly layerSources: readonly LayerSource[];
  /** The bytes of `stored` layers that are not stored yet. */
  readonly storedLayers?: ReadonlyMap<Digest, Uint8Array> | undefined;
}

interface ReadAhead extends AddedLayers {
  readonly signal: AbortSignal;
}

export interface Placing {
  readonly placeLayers: PlaceLayers;
  /**
   * Begins to read what placing these layers on this image will need, and stops when the signal aborts. What fails is left to the placing to
   * report.
   */
  readAhead(origin: Origin, image: Pick<ImageManifest, 'layers'>, added: ReadAhead): void;
}

/**
 * The layers as placed, in order. Throws MANIFEST_INVALID where the links cannot be determined or are broken, UNAVAILABLE where determining
 * them takes too long: it continues in the background, and a retry finds the result.
 */
type PlaceLayers = (request: PlacingRequest) => Promise<readonly PlacedLayer[]>;

interface Plan {
  readonly placement: Placement;
  readonly entries: MovedLayer['entries'];
  readonly count: number;
}

type Plans = readonly (Plan | undefined)[];

const MAX_REPORTED_ENTRIES = 20;
const SLOW_MS = 10_000;
const RETRY_AFTER_SECONDS = 5;
/** Otherwise it is derived again. */
const KEEP_MS = 90 * 24 * 3_600_000;

const digest = z.string().refine(isDigest, 'expected a digest');
const movedSchema = z.object({ digest, size: z.int().nonnegative() });

export function createPlacing(deps: {
  readonly indexes: LayerIndexes;
  readonly layers: Pick<Layers, 'get' | 'openMoved'>;
  readonly content: Pick<ContentStore, 'ingest'>;
  readonly records: RecordStore;
  readonly memory: Memory;
  readonly now: () => Date;
  /** The maximum wait for the links of an image. */
  readonly waitMs: number;
  /** Called for an image whose links take long to determine. */
  readonly onSlow?: (image: string) => void;
}): Placing {
  const { indexes, layers, content, records, memory, now, waitMs, onSlow = () => {} } = deps;
  const plans = memory.openCache<Plans>();
  const movedLayers = createCollection({ store: records, name: 'moved-layer', schema: movedSchema });
  const flight = createSingleFlight<z.infer<typeof movedSchema>>();

  async function place(request: PlacingRequest): Promise<readonly PlacedLayer[]> {
    const found = await findPlans(request);
    return Promise.all(
      request.layers.map(async (layer, at) => {
        const plan = found[at];
        return plan ? placeOne(layer, plan, request) : { layer };
      }),
    );
  }

  async function findPlans(request: PlacingRequest): Promise<Plans> {
    const { origin, image } = request;
    const own = blobsOf(request);
    const base = image.manifest.layers.map(({ digest }) => digest);
    const key = JSON.stringify([locationOf(origin), base, own.map(({ digest, location }) => [digest, location])]);
    const known = plans.get(key);
    if (known) return known;
    const added = await Promise.all(own.map(layer => readAdded(layer, request.signal)));
    // Entries in the root are below no link.
    const found = added.some(hasDirectories) ? await plan(added, await readBase(origin, image.manifest, request)) : [];
    plans.set(key, found);
    return found;
  }

  function readAdded(layer: PlacedBlob, signal: AbortSignal | undefined): Promise<LayerIndex> {
    return indexes.get(layer, signal).catch(error => {
      throw explainAdded(error, layer.digest);
    });
  }

  function readBase(
    origin: Origin,
    { layers }: Pick<ImageManifest, 'layers'>,
    { signal }: Pick<PlacingRequest, 'signal'>,
  ): Promise<readonly LayerIndex[]> {
    return Promise.all(layers.map(descriptor => readBaseLayer(origin, descriptor, signal)));
  }

  async function readBaseLayer(
    origin: Origin,
    { digest, mediaType }: Descriptor,
    signal: AbortSignal | undefined,
  ): Promise<LayerIndex> {
    if (mediaType.endsWith('+encrypted')) throw unknowable(digest, 'it is encrypted');
    const { registry, repository } = origin;
    const open = async () => (await registry.getBlob(repository, digest)).open();
    try {
      const layer = { digest, location: locationOf(origin), isScoped: registry.scope !== undefined, open };
      return await indexes.get(layer, signal);
    } catch (error) {
      throw explainBase(error, digest);
    }
  }

  async function placeOne(layer: Layer, { placement, entries, count }: Plan, request: PlacingRequest) {
    const inner = requireSource(request.layerSources, layer.digest);
    const moved = await findMoved(inner, placement, request);
    const source: MovedLayerSource = { kind: 'moved', ...moved, inner, placement };
    const { platforms } = layer;
    const placed: Layer = { ...moved, diffId: moved.digest, compression: 'none', ...(platforms && { platforms }) };
    return { layer: placed, moved: { source, entries, count } };
  }

  async function findMoved(inner: BasicSource, placement: Placement, request: PlacingRequest) {
    const key = digestOf(new TextEncoder().encode(JSON.stringify([inner.digest, placement])));
    const known = await movedLayers.find(key);
    if (known) return known;
    return flight(key, async () => {
      const moved = await make(() => openMoved(inner, placement, request)).catch(error => {
        throw explainAdded(error, inner.digest);
      });
      await bestEffort(movedLayers.put(key, moved, { expiresAt: new Date(now().getTime() + KEEP_MS) }));
      return moved;
    });
  }

  async function openMoved(inner: BasicSource, placement: Placement, { storedLayers }: PlacingRequest) {
    return layers.openMoved({ inner, placement }, storedLayers?.get(inner.digest));
  }

  /** Stored, so that the first pull need not wait again; a full disk must not stop pulls. */
  async function make(open: () => Promise<ReadableStream<Uint8Array>>): Promise<z.infer<typeof movedSchema>> {
    try {
      const { digest, size } = await content.ingest(await open()).done;
      return { digest, size };
    } catch (error) {
      if (!(error instanceof StorageFailure)) throw error;
    }
    const digester = createSizedDigester(undefined, () => {});
    for await (const chunk of await open()) digester.update(chunk);
    return { digest: digester.digest(), size: digester.size };
  }

  function blobsOf(added: AddedLayers): readonly PlacedBlob[] {
    return added.layers.map(({ digest }) => blobOf(digest, added));
  }

  function blobOf(digest: Digest, { layerSources, storedLayers }: AddedLayers): PlacedBlob {
    const source = requireSource(layerSources, digest);
    const stored = source.kind === 'stored' ? storedLayers?.get(digest) : undefined;
    return {
      ...{ digest, location: locationOfBytes(source) },
      open: async () => (stored ? bytesBlob(stored) : await layers.get(source)).open(),
    };
  }

  async function readNeeded(origin: Origin, image: Pick<ImageManifest, 'layers'>, request: ReadAhead) {
    const added = await Promise.all(blobsOf(request).map(layer => readAdded(layer, request.signal)));
    if (added.some(hasDirectories)) await readBase(origin, image, request);
  }

  return {
    async placeLayers(request) {
      // Windows links are of another kind, and in another place.
      if (request.layers.length === 0 || request.image.platform.os === 'windows') {
        return request.layers.map(layer => ({ layer }));
      }
      return withinTime(place(request), request);
    },
    readAhead: (...request) => void readNeeded(...request).catch(() => {}),
  };

  async function withinTime<T>(work: Promise<T>, { origin, image }: PlacingRequest): Promise<T> {
    const name = `${originName(origin)}@${image.manifest.digest}`;
    const { promise: late, reject } = Promise.withResolvers<never>();
    const slow = setTimeout(() => onSlow(name), SLOW_MS);
    const timeout = setTimeout(() => reject(notYet(name)), waitMs);
    try {
      return await Promise.race([work, late]);
    } finally {
      clearTimeout(slow);
      clearTimeout(timeout);
      // After the timeout the result is not awaited.
      work.catch(() => {});
    }
  }
}

type BasicSource = MovedLayerSource['inner'];

async function plan(added: readonly LayerIndex[], base: readonly LayerIndex[]): Promise<Plans> {
  const tree = createLinkTree();
  for (const index of base) await tree.add(index);
  const plans: (Plan | undefined)[] = [];
  for (const index of added) {
    const placement = tree.place(index);
    plans.push(placement && { placement, ...listMoved(index, placement, MAX_REPORTED_ENTRIES) });
    if (plans.length < added.length) await tree.add(index, placement);
  }
  return plans;
}

function requireSource(sources: readonly LayerSource[], digest: Digest): BasicSource {
  const source = sources.find(each => each.digest === digest);
  if (source && source.kind !== 'moved') return source;
  throw new Error(`the layer ${digest} cannot be located`);
}

function locationOf({ registry, repository }: Origin): string {
  return `${registry.name}/${repository}#${registry.scope ?? ''}`;
}

function explainBase(error: unknown, digest: Digest): unknown {
  if (error instanceof UnreadableLayer) return unknowable(digest, error.message, error);
  if (error instanceof ContentMismatch) return broken(digest, error);
  if (!(error instanceof RegistryError)) return error;
  if (error.status < 500 && error.status !== 429) return unknowable(digest, error.message, error);
  const reason = `the layer ${digest} of the image cannot be read now: ${error.message}`;
  const { retryAfterSeconds = RETRY_AFTER_SECONDS } = error;
  return new RegistryError('UNAVAILABLE', reason, { cause: error, retryAfterSeconds });
}

function explainAdded(error: unknown, digest: Digest): unknown {
  if (error instanceof ContentMismatch) return broken(digest, error);
  if (!(error instanceof UnreadableLayer)) return error;
  return invalid(`the layer ${digest} cannot be appended: ${error.message}`, error);
}

function broken(digest: Digest, cause: ContentMismatch): RegistryError {
  return new RegistryError('UNKNOWN', `the layer ${digest}: ${cause.message}`, { status: 502, cause });
}

function unknowable(digest: Digest, reason: string, cause?: unknown): RegistryError {
  return invalid(
    `the links of the image cannot be determined, because its layer ${digest} cannot be read: ${reason}`,
    cause,
  );
}

function invalid(reason: string, cause?: unknown): RegistryError {
  return new RegistryError('MANIFEST_INVALID', `the image cannot be augmented: ${reason}`, { cause });
}

function notYet(name: string): RegistryError {
  return new RegistryError(
    'UNAVAILABLE',
    `the links of ${name} are not known yet: its layers are still being read. Try again`,
    { retryAfterSeconds: RETRY_AFTER_SECONDS },
  );
}
