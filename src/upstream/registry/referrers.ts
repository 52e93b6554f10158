// The referrers of a manifest, as one index: from the pages of the referrers API, or from the referrers tag where there is none.
import { z } from 'zod';
import { type Digest, digestAlgorithm, digestHex, isDigest } from '../../oci/digest.ts';
import { orUndefined } from '../../oci/errors.ts';
import { parseJson } from '../../oci/json.ts';
import { MAX_MANIFEST_BYTES } from '../../oci/manifest.ts';
import { isIndexType } from '../../oci/media-type.ts';
import { badAnswer, type RequestContext } from '../failure.ts';
import { contentType, type ResponseHeaders } from '../transport/response.ts';
import type { ManifestBody } from '../upstream.ts';
import type { Call, Document } from './call.ts';
import { findNext } from './call.ts';

interface ReferrersRequest {
  readonly digest: Digest;
  readonly artifactType: string | undefined;
  /** Reads the manifest of a tag. */
  readonly getTagged: (tag: string) => Promise<ManifestBody>;
}

const MAX_PAGES = 16;
/** Absent, or not supported. */
const CANNOT: readonly number[] = [404, 405];
const MAX_TOTAL_BYTES = 4 * MAX_MANIFEST_BYTES;

/**
 * The bytes of an index, filtered by `artifactType` if given; undefined when there are none. distribution-spec "Listing Referrers". Throws
 * 502 for an answer that is not an index, beyond the limits of pages and bytes, and for a page at another host.
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

// Pages of referrers, merged into one index.

const MAX_ENTRIES = 4096;

/** Loose: other fields are the upstream's, and passed on. */
const indexSchema = z.looseObject({
  schemaVersion: z.literal(2),
  manifests: z
    .array(
      z.looseObject({
        mediaType: z.string().max(255),
        digest: z.string().refine(isDigest),
        size: z.int().nonnegative(),
        artifactType: z.string().max(255).nullish(),
      }),
    )
    .max(MAX_ENTRIES)
    .nullish(),
});

type Index = z.infer<typeof indexSchema>;

interface ReferrersPage {
  readonly raw: Uint8Array;
  readonly index: Index;
  /** Whether the upstream has filtered it by artifact type. */
  readonly isFiltered: boolean;
}

/** Undefined where the bytes are not an index. */
function findPage({ raw, headers }: Document): ReferrersPage | undefined {
  const { data } = indexSchema.safeParse(findJson(raw));
  return data && { raw, index: data, isFiltered: isFiltered(headers) };
}

/** Throws 502 where the bytes are not an index. */
function parsePage(document: Document, attempt: RequestContext): ReferrersPage {
  const page = findPage(document);
  if (page) return page;
  throw badAnswer(attempt, `the answer is not an index of at most ${MAX_ENTRIES} referrers`);
}

/** One index of all pages, filtered by `artifactType` if given. A single page that needs no change is passed on byte for byte. */
function mergePages(
  pages: readonly ReferrersPage[],
  artifactType: string | undefined,
  attempt: RequestContext,
): Uint8Array {
  const manifests = pages.flatMap(({ index, isFiltered }) => {
    const entries = index.manifests ?? [];
    const isDone = artifactType === undefined || isFiltered;
    return isDone ? entries : entries.filter(entry => entry.artifactType === artifactType);
  });
  const [first] = pages;
  if (first && pages.length === 1 && manifests.length === first.index.manifests?.length) return first.raw;
  const raw = new TextEncoder().encode(JSON.stringify({ ...first?.index, manifests }));
  if (raw.byteLength <= MAX_MANIFEST_BYTES) return raw;
  throw badAnswer(attempt, `its referrers make an index of more than ${MAX_MANIFEST_BYTES} bytes`);
}

/** Undefined for invalid JSON. The error would quote the upstream. */
function findJson(raw: Uint8Array): unknown {
  try {
    return parseJson(raw);
  } catch {
    return undefined;
  }
}

function isFiltered(headers: ResponseHeaders): boolean {
  const applied = [headers['oci-filters-applied'] ?? []].flat().join(',').split(',');
  return applied.some(filter => filter.trim().toLowerCase() === 'artifacttype');
}
