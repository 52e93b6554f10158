// What a manifest refers to must be in its repository, as far as the owner wants it. distribution-spec "Push".
import type { Descriptor } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { isNondistributableType } from '../oci/media-type.ts';
import type { ManifestDocument } from './document.ts';
import { linkKey } from './records.ts';
import type { Room } from './room.ts';

type FindSize = (digest: Digest) => Promise<number | undefined>;

/**
 * What is missing and may be. Throws MANIFEST_BLOB_UNKNOWN, which names what is missing and must not be, and MANIFEST_INVALID for a
 * descriptor that lies about the size of what is there. The subject need not be there, nor a layer that is fetched from elsewhere: neither
 * counts as missing. Of types that we do not know nothing is asked.
 */
export async function checkReferences(
  room: Room,
  repository: string,
  document: ManifestDocument,
): Promise<readonly Digest[]> {
  if (!document.isKnown) return [];
  const { sparse } = room.options;
  const { blobs, manifests } = room.records;
  const findBlob: FindSize = async digest => (await blobs.find(linkKey(repository, digest)))?.size;
  const findManifest: FindSize = async digest => (await manifests.find(linkKey(repository, digest)))?.size;
  const missingBlobs = (await missingOf(document.blobs, findBlob)).filter(descriptor => !isFromElsewhere(descriptor));
  // A build cache is an index of blobs.
  const missingEntries = await missingOf(
    document.manifests,
    async digest => (await findManifest(digest)) ?? findBlob(digest),
  );
  refuseMissing([...(sparse === 'allow' ? [] : missingBlobs), ...(sparse === 'refuse' ? missingEntries : [])]);
  return digestsOf([...missingBlobs, ...missingEntries]);
}

async function missingOf(descriptors: readonly Descriptor[], findSize: FindSize): Promise<readonly Descriptor[]> {
  const missing: Descriptor[] = [];
  for (const descriptor of descriptors) {
    const size = await findSize(descriptor.digest);
    if (size === undefined) missing.push(descriptor);
    else if (size !== descriptor.size) throw wrongSize(descriptor, size);
  }
  return missing;
}

function isFromElsewhere({ mediaType, urls }: Descriptor): boolean {
  return (urls?.length ?? 0) > 0 || isNondistributableType(mediaType);
}

function wrongSize({ digest, size }: Descriptor, actual: number): RegistryError {
  return new RegistryError('MANIFEST_INVALID', `invalid manifest: ${digest} has ${actual} bytes, not ${size}`);
}

function digestsOf(descriptors: readonly Descriptor[]): readonly Digest[] {
  return [...new Set(descriptors.map(({ digest }) => digest))];
}

/** How many are named: an error is read by people. */
const MAX_NAMED = 50;

function refuseMissing(missing: readonly Descriptor[]): void {
  if (missing.length === 0) return;
  const digests = digestsOf(missing);
  const named = digests.slice(0, MAX_NAMED);
  const more = digests.length > named.length ? ` and ${digests.length - named.length} more` : '';
  throw new RegistryError(
    'MANIFEST_BLOB_UNKNOWN',
    `push first what the manifest refers to: ${named.join(', ')}${more}`,
    {
      detail: named.map(digest => ({ digest })),
    },
  );
}
