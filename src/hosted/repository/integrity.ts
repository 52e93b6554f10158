// Invariants that a push or removal must not break: references must be in the repository, and immutable tags must not change.
import type { Descriptor } from '../../oci/descriptor.ts';
import { type Digest, parseDigest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { isNondistributableType } from '../../oci/media-type.ts';
import { linkKey, membersOf, tagKey } from '../records.ts';
import type { HostedStore } from '../store.ts';
import type { ManifestDocument } from './manifest-document.ts';

/** Throws DENIED where an immutable tag exists and points to another manifest. Holds until the next change. */
export async function refuseMove(store: HostedStore, repository: string, tag: string, digest: Digest): Promise<void> {
  if (!store.options.isImmutable(repository, tag)) return;
  const current = await store.records.tags.find(tagKey(repository, tag));
  if (current && current.digest !== digest) {
    throw denied(`the tag ${tag} of ${repository} is immutable and points to ${current.digest}: push another tag`);
  }
}

/** Throws DENIED for an immutable tag. */
export function refuseTagRemoval(store: HostedStore, repository: string, tag: string): void {
  if (store.options.isImmutable(repository, tag)) throw denied(`the tag ${tag} of ${repository} is immutable`);
}

/** Throws DENIED where an immutable tag points to the manifest, or to an index that contains it. Holds until the next change. */
export async function refuseRemoval(store: HostedStore, repository: string, digest: Digest): Promise<void> {
  const { tagged, references } = store.records;
  const visited = new Set<Digest>([digest]);
  for (const ancestor of visited) {
    const tags = await membersOf(tagged, repository, ancestor);
    const immutable = tags.find(tag => store.options.isImmutable(repository, tag));
    if (immutable !== undefined) throw denied(`the tag ${immutable} of ${repository} is immutable and needs ${digest}`);
    // The set grows during the iteration: parents of parents are visited in turn.
    for (const parent of await membersOf(references, repository, ancestor)) visited.add(parseDigest(parent));
  }
}

function denied(message: string): RegistryError {
  return new RegistryError('DENIED', message);
}

type FindSize = (digest: Digest) => Promise<number | undefined>;

/**
 * The missing references that are allowed to be missing. Throws MANIFEST_BLOB_UNKNOWN naming the others, and MANIFEST_INVALID for a
 * descriptor with a wrong size. The subject and foreign layers need not exist: neither counts as missing. References of unknown types are
 * not checked.
 */
export async function checkReferences(
  store: HostedStore,
  repository: string,
  document: ManifestDocument,
): Promise<readonly Digest[]> {
  if (!document.isKnown) return [];
  const { sparse } = store.options;
  const { blobs, manifests } = store.records;
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

/** How many are named, to keep the message readable. */
const MAX_NAMED = 50;

function refuseMissing(missing: readonly Descriptor[]): void {
  if (missing.length === 0) return;
  const digests = digestsOf(missing);
  const named = digests.slice(0, MAX_NAMED);
  const more = digests.length > named.length ? ` and ${digests.length - named.length} more` : '';
  throw new RegistryError(
    'MANIFEST_BLOB_UNKNOWN',
    `the manifest refers to content that is not in the repository, push it first: ${named.join(', ')}${more}`,
    {
      detail: named.map(digest => ({ digest })),
    },
  );
}
