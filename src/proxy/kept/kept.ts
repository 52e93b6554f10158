// Kept content that is read whole: a disk may have damaged it, and then it is fetched anew.
import type { ContentStore } from '../../content/store.ts';
import type { Digest } from '../../oci/digest.ts';
import { ContentMismatch, verifyBytes } from '../../oci/verify.ts';

/** All bytes of small content, verified; undefined when it is not kept, or was damaged and is kept no more. */
export async function readKept(content: ContentStore, digest: Digest): Promise<Uint8Array | undefined> {
  const raw = await content.read(digest);
  try {
    if (raw) verifyBytes(raw, { digest });
    return raw;
  } catch (error) {
    if (!(error instanceof ContentMismatch)) throw error;
    await content.delete(digest);
    return undefined;
  }
}
