// Referrers of a manifest. distribution-spec "Listing Referrers".
import type { Digest } from '../oci/digest.ts';
import type { Hosted, ReferrersPage } from './hosted.ts';
import { keysOf, memberKey, type Referrer } from './records.ts';
import type { Room } from './room.ts';

/** An index is a manifest, and no client has to read a larger one. */
const MAX_PAGE_BYTES = 3 * 1024 * 1024;

export function createListReferrers({ records }: Room): Hosted['listReferrers'] {
  async function* find(repository: string, subject: Digest, { artifactType, after }: ReferrersPage) {
    for await (const key of keysOf(
      records.referrers,
      memberKey(repository, subject),
      memberKey(repository, subject, after),
    )) {
      const referrer = await records.referrers.find(key);
      if (referrer && (artifactType === undefined || referrer.artifactType === artifactType)) yield referrer;
    }
  }

  return async (repository, digest, page) => {
    const descriptors: Referrer[] = [];
    let size = 0;
    for await (const referrer of find(repository, digest, page)) {
      size += Buffer.byteLength(JSON.stringify(referrer));
      if (descriptors.length > 0 && size > MAX_PAGE_BYTES) return { descriptors, hasMore: true };
      descriptors.push(referrer);
    }
    return { descriptors, hasMore: false };
  };
}
