// Blobs that are kept, on their way out. A disk may have damaged or lost what it keeps, and a cache may drop it between two looks: what is not
// there any more is had from where it came from.
import type { ContentStore } from '../../content/store.ts';
import type { Digest } from '../../oci/digest.ts';
import type { ByteRange } from '../../oci/range.ts';

interface Opener {
  open(range?: ByteRange): Promise<ReadableStream<Uint8Array>>;
}

interface KeptBlob {
  readonly digest: Digest;
  readonly size: number;
  /** The same blob, from where it came from. */
  readonly getAnew: () => Promise<Opener>;
}

export function createKeptBlobs(
  content: Pick<ContentStore, 'open'>,
): (kept: KeptBlob) => Opener & Pick<KeptBlob, 'size'> {
  return ({ digest, size, getAnew }) => ({
    size,
    open: async range => (await content.open(digest, range)) ?? (await getAnew()).open(range),
  });
}
