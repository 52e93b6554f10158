// Layers at http(s) addresses: fetched once into the store, to be looked at and later served from there.
import { InvalidLayer } from '../../augment/invalid-layer.ts';
import type { LayerClaims, LayerLimits } from '../../augment/layer.ts';
import type { ContentStore } from '../../content/store.ts';
import type { Memory } from '../../memory.ts';
import type { Digest } from '../../oci/digest.ts';
import type { BlobBody, Upstreams } from '../../upstream/upstream.ts';

interface LayerUrlsDeps {
  readonly upstreams: Pick<Upstreams, 'openUrl'>;
  readonly content: ContentStore;
  readonly limits: LayerLimits;
  readonly memory: Memory;
}

/** The caller reads the stream to its end or cancels it. Throws RegistryError, InvalidLayer, or ContentMismatch for a wrong `gzipDigest`. */
type OpenLayerUrl = (url: URL, claims: LayerClaims, signal?: AbortSignal) => Promise<LayerUrlBody>;

interface LayerUrlBody extends Pick<BlobBody, 'body' | 'coding'> {
  /** Of its bytes, which this address has brought. */
  readonly digest: Digest;
}

/** A claimed digest alone opens nothing in the store, for content may be another repository's: only what the same address has brought. */
export function createLayerUrls({ upstreams, content, limits, memory }: LayerUrlsDeps): OpenLayerUrl {
  const brought = memory.openCache<Digest>();

  async function fetch(
    url: URL,
    { gzipDigest, gzipSize }: LayerClaims,
    signal: AbortSignal | undefined,
  ): Promise<LayerUrlBody> {
    const { body, coding } = await upstreams.openUrl(url, { digest: gzipDigest, signal });
    const expected = gzipDigest && { digest: gzipDigest, size: gzipSize };
    const ingestion = content.ingest(limitBytes(body, limits.maxUnpackedBytes, signal), expected);
    // Opened now, it is read to its end whatever becomes of the layer in the store.
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
    const kept = known && known === claims.gzipDigest ? await content.open(known) : undefined;
    return known && kept ? { body: kept, digest: known } : fetch(url, claims, signal);
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
