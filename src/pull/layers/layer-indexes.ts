// The indexes of layers, each computed once from the layer's bytes and stored by its digest. Only callers who received the bytes may learn
// what a layer contains, and a digest in a manifest proves nothing: so a layer is read, whole and verified, once at each place.
import pLimit from 'p-limit';
import { drainBody } from '../../augment/body-reader.ts';
import { type IndexLimits, indexLayer, type LayerIndex, packIndex, unpackIndex } from '../../augment/layer-index.ts';
import { UnreadableLayer } from '../../augment/unpack-layer.ts';
import { createSingleFlight } from '../../cache/read-through/single-flight.ts';
import type { Memory } from '../../memory.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import type { RecordStore } from '../../state/store.ts';

/** A layer at a place: a repository as one scope sees it, an address, or our own content. */
export interface PlacedBlob {
  readonly digest: Digest;
  readonly location: string;
  /** Whether access to the place expires soon, like a scope. */
  readonly isScoped?: boolean;
  /** Its bytes, verified as they are read. The stream is read to its end or cancelled. */
  readonly open: () => Promise<ReadableStream<Uint8Array>>;
}

export interface LayerIndexes {
  /**
   * Read once for all concurrent callers, as long as one of them stays. Throws UnreadableLayer beyond the limits, UNAVAILABLE when too many
   * layers are waiting, and the error of `open` or of its stream.
   */
  get(layer: PlacedBlob, signal?: AbortSignal): Promise<LayerIndex>;
}

const MAX_READS = 4;
const MAX_WAITING = 500;
/** A layer that takes longer is aborted, since others are waiting. */
const READ_TIMEOUT_MS = 15 * 60_000;
const KEEP_MS = 90 * 24 * 3_600_000;
const SCOPED_TTL_MS = 24 * 3_600_000;
/** More than almost all need. Larger ones are reread after a restart. */
const MAX_CACHED_BYTES = 8 * 1024 * 1024;
const UNREADABLE_MEMORY_MS = 3_600_000;

const INDEXES = 'layer-index';
/** The places where a layer has been read. */
const READ_AT = 'layer-read-at';

export function createLayerIndexes({
  records,
  now,
  limits,
  memory,
}: {
  readonly records: RecordStore;
  readonly now: () => Date;
  readonly limits: IndexLimits;
  readonly memory: Memory;
}): LayerIndexes {
  const indexes = memory.openCache<LayerIndex>();
  const readAt = memory.openCache<true>();
  /** The reasons for failures. */
  const unreadable = memory.openCache<string>();
  const flight = createSingleFlight<LayerIndex>();
  const reads = pLimit(MAX_READS);

  async function find(digest: Digest): Promise<LayerIndex | undefined> {
    const known = indexes.get(digest);
    if (known) return known;
    const packed = await records.get(INDEXES, digest);
    const index = packed && (await unpackIndex(packed));
    if (index) indexes.set(digest, index);
    return index;
  }

  async function isReadAt(key: string): Promise<boolean> {
    if (readAt.has(key)) return true;
    const found = (await records.get(READ_AT, key)) !== undefined;
    if (found) readAt.set(key, true, { ttlMs: SCOPED_TTL_MS });
    return found;
  }

  async function read(layer: PlacedBlob, key: string, signal: AbortSignal): Promise<LayerIndex> {
    const { digest } = layer;
    const known = await find(digest);
    if (known && (await isReadAt(key))) return known;
    const refused = unreadable.get(key);
    if (refused !== undefined) throw new UnreadableLayer(refused);
    if (reads.pendingCount > MAX_WAITING) {
      throw new RegistryError('UNAVAILABLE', 'too many layers wait to be read', { retryAfterSeconds: 10 });
    }
    const index = await reads(() => readBytes(layer, known, signal)).catch(error => {
      if (error instanceof UnreadableLayer) unreadable.set(key, error.message, { ttlMs: UNREADABLE_MEMORY_MS });
      throw error;
    });
    indexes.set(digest, index);
    readAt.set(key, true, { ttlMs: SCOPED_TTL_MS });
    // Nobody waits for the disk: what is not kept is read again after a restart.
    keep(layer, key, known ? undefined : index).catch(() => {});
    return index;
  }

  /** For a known index, having received the bytes is enough. */
  async function readBytes(
    { open }: PlacedBlob,
    known: LayerIndex | undefined,
    wanted: AbortSignal,
  ): Promise<LayerIndex> {
    wanted.throwIfAborted();
    const signal = AbortSignal.any([wanted, AbortSignal.timeout(READ_TIMEOUT_MS)]);
    const body = await open();
    if (!known) return indexLayer(body, limits, signal);
    await drainBody(body, signal);
    return known;
  }

  async function keep({ digest, isScoped }: PlacedBlob, key: string, index: LayerIndex | undefined): Promise<void> {
    const expiresAt = (keepMs: number) => ({ expiresAt: new Date(now().getTime() + keepMs) });
    const packed = index && (await packIndex(index));
    const isSmall = packed !== undefined && packed.byteLength <= MAX_CACHED_BYTES;
    const readAtUntil = expiresAt(isScoped ? SCOPED_TTL_MS : KEEP_MS);
    // In one transaction, which is one wait for the disk.
    await records.write([
      ...(isSmall
        ? [{ kind: 'put' as const, collection: INDEXES, key: digest, value: packed, ...expiresAt(KEEP_MS) }]
        : []),
      { kind: 'put', collection: READ_AT, key, value: new Uint8Array([1]), ...readAtUntil },
    ]);
  }

  return {
    async get(layer, signal) {
      const key = `${layer.location}@${layer.digest}`;
      const known = readAt.has(key) ? indexes.get(layer.digest) : undefined;
      return known ?? flight(key, stop => read(layer, key, stop), signal);
    },
  };
}
