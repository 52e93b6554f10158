// Pages of referrers, and the one index that they become.
import { z } from 'zod';
import { isDigest } from '../oci/digest.ts';
import { parseJson } from '../oci/json.ts';
import { MAX_MANIFEST_BYTES } from '../oci/manifest.ts';
import type { Document } from './call.ts';
import { type Attempt, badAnswer } from './failure.ts';
import type { ResponseHeaders } from './response.ts';

const MAX_ENTRIES = 4096;

/** Loose: what is not named here is the upstream's to say, and is passed on. */
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

/** Undefined where the bytes are no index. */
export function findPage({ raw, headers }: Document): ReferrersPage | undefined {
  const { data } = indexSchema.safeParse(findJson(raw));
  return data && { raw, index: data, isFiltered: isFiltered(headers) };
}

/** Throws 502 where the bytes are no index. */
export function parsePage(document: Document, attempt: Attempt): ReferrersPage {
  const page = findPage(document);
  if (page) return page;
  throw badAnswer(attempt, `the answer is not an index of at most ${MAX_ENTRIES} referrers`);
}

/** One index of all pages, filtered where `artifactType` is given. A single page that needs no change is passed on byte for byte. */
export function mergePages(
  pages: readonly ReferrersPage[],
  artifactType: string | undefined,
  attempt: Attempt,
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

/** Undefined for what is no JSON. The error would quote the upstream. */
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
