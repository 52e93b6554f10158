// Kept content that is read whole: what is too large for that counts as not there.
import { type ContentStore, ContentTooLarge } from '../../content/store.ts';
import type { Digest } from '../../oci/digest.ts';

/**
 * All bytes of small content, verified; undefined when it is not kept, is larger than `maxBytes`, or was damaged and is kept no more. For
 * whoever was sent it: the caller has looked at the link.
 */
export async function readKept(
  content: Pick<ContentStore, 'read'>,
  digest: Digest,
  maxBytes: number,
): Promise<Uint8Array | undefined> {
  try {
    return await content.read(digest, maxBytes);
  } catch (error) {
    if (error instanceof ContentTooLarge) return undefined;
    throw error;
  }
}
