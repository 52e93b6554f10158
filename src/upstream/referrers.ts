// The referrers of a manifest, as one index: from the pages of the referrers API, or from the referrers tag where there is none.

import { orUndefined } from '../oci/absence.ts';
import { type Digest, digestAlgorithm, digestHex } from '../oci/digest.ts';
import { MAX_MANIFEST_BYTES } from '../oci/manifest.ts';
import { isIndexType } from '../oci/media-type.ts';
import type { Call, Document } from './call.ts';
import { badAnswer } from './failure.ts';
import { findNext } from './link.ts';
import { findPage, mergePages, parsePage } from './referrers-page.ts';
import { contentType } from './response.ts';
import type { ManifestBody } from './upstream.ts';

interface ReferrersRequest {
  readonly digest: Digest;
  readonly artifactType: string | undefined;
  /** Reads the manifest of a tag. */
  readonly getTagged: (tag: string) => Promise<ManifestBody>;
}

const MAX_PAGES = 16;
/** What is absent, or cannot be asked for. */
const CANNOT: readonly number[] = [404, 405];
const MAX_TOTAL_BYTES = 4 * MAX_MANIFEST_BYTES;

/**
 * The bytes of an index, filtered where `artifactType` is given; undefined when there are none. distribution-spec "Listing Referrers".
 * Throws 502 for an answer that is no index, for more pages or bytes than we take, and for a page at another host.
 */
export async function readReferrers(
  api: Call,
  { digest, artifactType, getTagged }: ReferrersRequest,
): Promise<Uint8Array | undefined> {
  const first = await orUndefined(api.readDocument(), CANNOT);
  if (first && isIndexType(contentType(first.headers))) {
    const documents = await readPages(first, api);
    const pages = documents.map(document => parsePage(document, api.attempt));
    return mergePages(pages, artifactType, api.attempt);
  }
  const tagged = await orUndefined(getTagged(referrersTag(digest)), CANNOT);
  const page = tagged && isIndexType(tagged.contentType) && findPage({ raw: tagged.raw, headers: {} });
  return page ? mergePages([page], artifactType, api.attempt) : undefined;
}

async function readPages(first: Document, api: Call): Promise<readonly Document[]> {
  const pages = [first];
  let bytes = first.raw.byteLength;
  let next = findNext(first.headers, api.address, api.attempt);
  while (next) {
    if (pages.length === MAX_PAGES || bytes > MAX_TOTAL_BYTES) {
      throw badAnswer(api.attempt, `its referrers fill more than ${MAX_PAGES} pages or ${MAX_TOTAL_BYTES} bytes`);
    }
    const page = await api.readDocument(next);
    pages.push(page);
    bytes += page.raw.byteLength;
    next = findNext(page.headers, next, api.attempt);
  }
  return pages;
}

/** distribution-spec "Referrers Tag Schema". */
function referrersTag(digest: Digest): string {
  return `${digestAlgorithm(digest)}-${digestHex(digest).slice(0, 64)}`;
}
