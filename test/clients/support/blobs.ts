// A folder of blobs, as an OCI layout and containerd have one, checked from an index down.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ContentDescriptor } from '../../../src/oci/descriptor.ts';
import { type Digest, parseDigest } from '../../../src/oci/digest.ts';
import { mediaTypes } from '../../../src/oci/media-type.ts';
import { checkImage } from '../../support/oracle.ts';

export interface CheckedBlobs {
  /** How many images there are below the index. */
  readonly images: number;
  /** All that they consist of, the index too, sorted. */
  readonly digests: readonly Digest[];
}

/** Recomputes every digest, size and diffID below the OCI index. Throws on the first that is not right. */
export async function checkBlobs(directory: string, index: string): Promise<CheckedBlobs> {
  const digests = new Set<Digest>();
  const read = ({ digest }: ContentDescriptor) => {
    digests.add(digest);
    return readFile(join(directory, 'blobs', digest.replace(':', '/')));
  };
  const digest = parseDigest(index);
  const { byteLength: size } = await readFile(join(directory, 'blobs', digest.replace(':', '/')));
  const images = await checkImage({ mediaType: mediaTypes.ociIndex, digest, size }, read);
  return { images: images.length, digests: [...digests].toSorted() };
}
