// The referrers of a manifest, page by page. distribution-spec "Listing Referrers".
import type { Descriptor } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { keysOf } from '../../state/store.ts';
import { memberKey, type Referrer } from '../records.ts';
import type { HostedStore } from '../store.ts';

/** Manifests whose subject is `digest`, in the order of their digests; empty where there are none, whether or not the subject exists. */
export type ListReferrers = (
  repository: string,
  digest: Digest,
  page: ReferrersPage,
) => Promise<{ readonly descriptors: readonly Descriptor[]; readonly hasMore: boolean }>;

interface ReferrersPage {
  readonly artifactType?: string | undefined;
  /** Only those after this digest. */
  readonly after?: Digest | undefined;
}

/** The page is served as an index, and clients need not read larger ones. */
const MAX_PAGE_BYTES = 3 * 1024 * 1024;

export function createListReferrers({ records }: HostedStore): ListReferrers {
  async function* find(repository: string, subject: Digest, { artifactType, after }: ReferrersPage) {
    const start = memberKey(repository, subject, after);
    for await (const key of keysOf(records.referrers, memberKey(repository, subject), start)) {
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
