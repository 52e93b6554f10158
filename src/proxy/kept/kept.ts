// Kept content that is read whole: a disk may have damaged it, and then it is fetched anew.
import { type ContentStore, ContentTooLarge } from '../../content/store.ts';
import type { Digest } from '../../oci/digest.ts';
import { ContentMismatch, verifyBytes } from '../../oci/verify.ts';

/**
 * All bytes of small content, verified; undefined when it is not kept, is larger than `maxBytes`, or was damaged and is kept no more. For
 * whoever was sent it: the caller has looked at the link.
 */
export async function readKept(
  content: ContentStore,
  digest: Digest,
  maxBytes: number,
): Promise<Uint8Array | undefined> {
  try {
    const raw = await content.read(digest, maxBytes);
    if (raw) verifyBytes(raw, { digest });
    return raw;
  } catch (error) {
    if (error instanceof ContentTooLarge) return undefined;
    if (!(error instanceof ContentMismatch)) throw error;
    await content.delete(digest);
    return undefined;
  }
}
