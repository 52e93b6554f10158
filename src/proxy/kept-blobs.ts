// Blobs that are kept, on their way out. A disk may have damaged or lost what it keeps, and a cache may drop it between two looks: what is
// read whole is verified once in a while, and what is not there any more is had from where it came from.
import { LRUCache } from 'lru-cache';
import type { ContentStore } from '../content/store.ts';
import type { Digest } from '../oci/digest.ts';
import type { ByteRange } from '../oci/range.ts';
import { ContentMismatch } from '../oci/verify.ts';
import { passThrough } from './pass-through.ts';

export interface KeptBlobsDeps {
  readonly content: ContentStore;
  /** Hears of content that was damaged, and is kept no more: its reader was cut off. */
  readonly onDamaged: (digest: Digest, error: unknown) => void;
}

interface Opener {
  open(range?: ByteRange): Promise<ReadableStream<Uint8Array>>;
}

export interface KeptBlob {
  readonly digest: Digest;
  readonly size: number;
  /** The same blob, from where it came from. */
  readonly getAnew: () => Promise<Opener>;
}

/** What was verified is believed for so long. */
const TRUST_MS = 24 * 3600_000;
const MAX_TRUSTED = 50_000;

export function createKeptBlobs({
  content,
  onDamaged,
}: KeptBlobsDeps): (kept: KeptBlob) => Opener & Pick<KeptBlob, 'size'> {
  const trusted = new LRUCache<Digest, true>({ max: MAX_TRUSTED, ttl: TRUST_MS });

  /** The last bytes come only when all are right, so that the client asks again; and then it gets the right ones. */
  function verify(stream: ReadableStream<Uint8Array>, { digest, size }: KeptBlob): ReadableStream<Uint8Array> {
    const reader = passThrough(stream, { digest, size }).getReader();
    return new ReadableStream({
      async pull(controller) {
        try {
          const { done, value } = await reader.read();
          if (value) return controller.enqueue(value);
          if (done) trusted.set(digest, true);
          controller.close();
        } catch (error) {
          if (error instanceof ContentMismatch) {
            await content.delete(digest);
            onDamaged(digest, error);
          }
          throw error;
        }
      },
      cancel: reason => reader.cancel(reason),
    });
  }

  async function open(kept: KeptBlob, range: ByteRange | undefined): Promise<ReadableStream<Uint8Array>> {
    const stream = await content.open(kept.digest, range);
    if (!stream) return (await kept.getAnew()).open(range);
    return range || trusted.has(kept.digest) ? stream : verify(stream, kept);
  }

  return kept => ({ size: kept.size, open: range => open(kept, range) });
}
