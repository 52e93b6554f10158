// Blobs that are kept, on their way out. A disk may have damaged or lost what it keeps, and a cache may drop it between two looks: what is
// read whole is verified once in a while, once for all who read it at the time, and what is not there any more is had from where it came from.
import { LRUCache } from 'lru-cache';
import type { ContentStore } from '../../content/store.ts';
import type { Digest } from '../../oci/digest.ts';
import type { ByteRange } from '../../oci/range.ts';
import { ContentMismatch, createVerifier } from '../../oci/verify.ts';
import { createFlight } from '../flight.ts';

export interface KeptBlobsDeps {
  readonly content: Pick<ContentStore, 'open' | 'delete'>;
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
  const verifying = createFlight<void>();

  /** All who read it meanwhile wait with their last byte; then the client asks again, and gets the right ones. It goes on without them. */
  async function verify({ digest, size }: KeptBlob): Promise<void> {
    const body = await content.open(digest);
    if (!body) throw new Error(`${digest} has gone before it was verified`);
    const verifier = createVerifier({ digest, size });
    try {
      for await (const chunk of body) verifier.update(chunk);
      verifier.finish();
    } catch (error) {
      if (error instanceof ContentMismatch) {
        await content.delete(digest);
        onDamaged(digest, error);
      }
      throw error;
    }
    trusted.set(digest, true);
  }

  function prove(kept: KeptBlob): Promise<void> {
    const proof = verifying(kept.digest, () => verify(kept));
    // Who opens the blob may find nothing, and never look.
    proof.catch(() => {});
    return proof;
  }

  async function open(kept: KeptBlob, range: ByteRange | undefined): Promise<ReadableStream<Uint8Array>> {
    const proof = range || trusted.has(kept.digest) ? undefined : prove(kept);
    const stream = await content.open(kept.digest, range, proof);
    return stream ?? (await kept.getAnew()).open(range);
  }

  return kept => ({ size: kept.size, open: range => open(kept, range) });
}
