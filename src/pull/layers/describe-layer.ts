// Describes a requested layer: its bytes are inspected once, and then known by digest.
import type { Layer } from '../../augment/augmentation.ts';
import { createSemaphore, InvalidLayer, type Work } from '../../augment/budget.ts';
import { describeLayer, type LayerClaims, type LayerDescription, type LayerLimits } from '../../augment/layer.ts';
import type { LayerSource } from '../../augment/layer-source.ts';
import { type LayerLocation, parseLocation } from '../../augment/location.ts';
import { bytesBlob } from '../../cache/read-through/cached.ts';
import type { ContentStore } from '../../content/store.ts';
import type { Memory } from '../../memory.ts';
import { type Digest, digestOf } from '../../oci/digest.ts';
import type { DescribeRemote } from '../../rules/rules.ts';
import { encodedFault } from '../../upstream/transport/response.ts';
import type { BlobBody, Upstreams } from '../../upstream/upstream.ts';
import type { Origins } from '../origin.ts';
import type { ReadIncludes } from './includes.ts';

export interface WantedLayer extends LayerClaims {
  readonly location: string;
  /** Normalised; absent: for all platforms. */
  readonly platforms?: readonly string[] | undefined;
}

export interface DescribedLayer {
  readonly layer: Layer;
  readonly source: LayerSource;
  /** The bytes of a layer that came with the request. */
  readonly bytes?: Uint8Array;
}

/** Throws InvalidLayer for an invalid layer, or one that does not match its claims, and RegistryError for an unavailable one. */
export type DescribeWanted = (wanted: WantedLayer, work?: Work) => Promise<DescribedLayer>;

/** Concurrently unpacked chunks, of all layers. */
const MAX_UNPACKING = 2;

export function createDescribe({
  origins,
  upstreams,
  content,
  limits,
  memory,
}: {
  readonly origins: Origins;
  readonly upstreams: Upstreams;
  readonly content: ContentStore;
  readonly limits: LayerLimits;
  readonly memory: Memory;
}): DescribeWanted {
  const openUrl = createLayerUrls({ upstreams, content, limits, memory });
  const semaphore = createSemaphore(MAX_UNPACKING);
  // By the location of the bytes.
  const known = memory.openCache<LayerDescription>();

  /**
   * The properties of the bytes with that digest. Once known, they are never unpacked again; claims about a location are only proven there.
   */
  async function describeBytes(bytes: Bytes, claims: LayerClaims, work: Work | undefined): Promise<LayerDescription> {
    const key = `${bytes.location} ${bytes.digest}`;
    const found = known.get(key);
    const body = await bytes.open();
    if (found && agrees(found, claims)) {
      await body.cancel();
      return found;
    }
    const described = await describeLayer(body, claims, { ...limits, work, semaphore });
    known.set(key, described);
    return described;
  }

  async function describe(
    location: LayerLocation,
    claims: LayerClaims,
    work: Work | undefined,
  ): Promise<DescribedLayer> {
    switch (location.kind) {
      case 'data': {
        const bytes = location.read();
        const layer = await describeBytes(
          { location: '', digest: digestOf(bytes), open: bytesBlob(bytes).open },
          claims,
          work,
        );
        return { layer, source: { kind: 'stored', ...bytesOf(layer) }, bytes };
      }
      case 'url': {
        const { body, coding, digest } = await openUrl(location.url, claims, work?.signal);
        const layer = await describeBytes({ location: '', digest, open: async () => body }, claims, work).catch(
          error => {
            throw coding && error instanceof InvalidLayer ? encoded(error, coding) : error;
          },
        );
        return { layer, source: { kind: 'url', ...bytesOf(layer), url: location.url.href } };
      }
      case 'blob': {
        const named = namedClaims(location, claims);
        const { registry, repository } = origins.locate(location.registry, location.repository);
        const blob = await registry.getBlob(repository, location.digest);
        const source = `${registry.name}/${repository}#${registry.scope ?? ''}`;
        const layer = await describeBytes({ location: source, digest: location.digest, open: blob.open }, named, work);
        return { layer, source: { kind: 'blob', ...bytesOf(layer), registry: registry.name, repository } };
      }
    }
  }

  return async ({ location, platforms, ...claims }, work) => {
    const { layer, ...rest } = await describe(parseLocation(location), claims, work);
    return { ...rest, layer: { ...layer, ...(platforms && { platforms }) } };
  };
}

/** Bytes whose digest was verified at their location: undefined where they are local. */
interface Bytes {
  readonly location: string;
  readonly digest: Digest;
  readonly open: () => Promise<ReadableStream<Uint8Array>>;
}

/** Whether nothing was claimed that would have to be verified, or refused with a reason. */
function agrees(
  { digest, size, diffId }: LayerDescription,
  { gzipDigest = digest, gzipSize = size, tarDigest = diffId }: LayerClaims,
): boolean {
  return gzipDigest === digest && gzipSize === size && tarDigest === diffId;
}

/** Content that its server has compressed in transit is not a layer. */
function encoded(cause: InvalidLayer, coding: string): InvalidLayer {
  return new InvalidLayer(`${cause.message}; ${encodedFault(coding)}`, { cause });
}

/** The location of a blob is a claim, too. */
function namedClaims({ digest }: LayerLocation & { readonly kind: 'blob' }, claims: LayerClaims): LayerClaims {
  const { gzipDigest = digest } = claims;
  if (gzipDigest === digest) return { ...claims, gzipDigest };
  throw new InvalidLayer(`layer: gzipDigest is ${gzipDigest}, but the location names ${digest}`);
}

function bytesOf({ digest, size }: Layer) {
  return { digest, size };
}

// Layers at http(s) addresses: fetched once into the store, to be inspected and later served from there.

/**
 * The caller reads the stream to its end or cancels it. Throws RegistryError, InvalidLayer, or ContentMismatch for a wrong `gzipDigest`.
 */
type OpenLayerUrl = (url: URL, claims: LayerClaims, signal?: AbortSignal) => Promise<LayerUrlBody>;

interface LayerUrlBody extends Pick<BlobBody, 'body' | 'coding'> {
  /** The content received from this address. */
  readonly digest: Digest;
}

/**
 * A claimed digest alone gives no access to the store, whose content may be another repository's: only content received from the same
 * address.
 */
function createLayerUrls({
  upstreams,
  content,
  limits,
  memory,
}: {
  readonly upstreams: Pick<Upstreams, 'openUrl'>;
  readonly content: ContentStore;
  readonly limits: LayerLimits;
  readonly memory: Memory;
}): OpenLayerUrl {
  const brought = memory.openCache<Digest>();

  async function fetch(
    url: URL,
    { gzipDigest, gzipSize }: LayerClaims,
    signal: AbortSignal | undefined,
  ): Promise<LayerUrlBody> {
    const { body, coding } = await upstreams.openUrl(url, { digest: gzipDigest, signal });
    const expected = gzipDigest && { digest: gzipDigest, size: gzipSize };
    const ingestion = content.ingest(limitBytes(body, limits.maxUnpackedBytes, signal), expected);
    // Already open, it is readable to its end even if the layer is evicted.
    const stream = ingestion.open();
    try {
      const { digest } = await ingestion.done;
      brought.set(url.href, digest);
      return { body: stream, coding, digest };
    } catch (error) {
      await stream.cancel().catch(() => {});
      throw error;
    }
  }

  return async (url, claims, signal) => {
    const known = brought.get(url.href);
    const cached = known && known === claims.gzipDigest ? await content.open(known) : undefined;
    return known && cached ? { body: cached, digest: known } : fetch(url, claims, signal);
  };
}

function limitBytes(
  body: ReadableStream<Uint8Array>,
  maxBytes: number,
  signal: AbortSignal | undefined,
): ReadableStream<Uint8Array> {
  let size = 0;
  const limit = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      size += chunk.byteLength;
      if (size > maxBytes) throw new InvalidLayer(`layer: larger than the limit of ${maxBytes} bytes`);
      controller.enqueue(chunk);
    },
  });
  return body.pipeThrough(limit, signal ? { signal } : {});
}

// Remote layers of rules, resolved in the same way as for pulls.

export function createDescribeRemote({
  describeWanted,
  readIncludes,
}: {
  readonly describeWanted: DescribeWanted;
  readonly readIncludes: ReadIncludes;
}): DescribeRemote {
  return async layer => {
    switch (layer.kind) {
      case 'url':
        return [await describeWanted({ location: layer.url, gzipDigest: layer.digest })];
      case 'blob':
        return [await describeWanted({ location: layer.location })];
      case 'image':
        return readIncludes(layer.image);
    }
  };
}
