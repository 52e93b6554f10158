// Records of hosted repositories: the collections and keys of docs/storage.md, and paged iteration over them.
import { z } from 'zod';
import { type Digest, isDigest } from '../oci/digest.ts';
import { type ErrorCode, RegistryError } from '../oci/errors.ts';
import { createCollection } from '../state/collection.ts';
import { keysOf, type ListOptions, type RecordStore } from '../state/store.ts';

const digestSchema = z.string().refine(isDigest);
const pushedAt = z.iso.datetime();
const keyAlone = z.object({});

export const tagSchema = z.object({ digest: digestSchema, pushedAt });

export const manifestSchema = z.object({
  mediaType: z.string(),
  size: z.int(),
  /** Config, layers and manifests, as `references` has them; not the subject. */
  references: z.array(digestSchema),
  subject: digestSchema.optional(),
  pushedAt,
  /** When it last lost a tag. */
  untaggedAt: z.iso.datetime().optional(),
});

export const blobSchema = z.object({ size: z.int(), pushedAt });

const referrerSchema = z.object({
  mediaType: z.string(),
  digest: digestSchema,
  size: z.int(),
  artifactType: z.string().optional(),
  annotations: z.record(z.string(), z.string()).optional(),
});

const uploadSchema = z.object({
  repository: z.string(),
  algorithm: z.enum(['sha256', 'sha512']),
  startedAt: z.iso.datetime(),
  /** What has arrived, where it is in a bucket: in this order. */
  parts: z.array(z.object({ digest: digestSchema, size: z.int().positive() })).optional(),
  /** When the last part has arrived. */
  receivedAt: z.iso.datetime().optional(),
});

const removalSchema = z.object({ digests: z.array(digestSchema), unlinkedAt: z.iso.datetime() });

export type TagRecord = z.infer<typeof tagSchema>;
export type ManifestRecord = z.infer<typeof manifestSchema>;
export type BlobRecord = z.infer<typeof blobSchema>;
export type Referrer = z.infer<typeof referrerSchema>;
export type UploadRecord = z.infer<typeof uploadSchema>;
export type HostedRecords = ReturnType<typeof createHostedRecords>;

/** The collection of the links of blobs. */
export const BLOBS = 'hosted.blob';

export function createHostedRecords(store: RecordStore) {
  return {
    write: store.write,
    /** By `tagKey`: the target of a tag. */
    tags: createCollection({ store, name: 'hosted.tag', schema: tagSchema }),
    /** By `linkKey` and the tag: which tags point to a manifest. */
    tagged: createCollection({ store, name: 'hosted.tagged', schema: keyAlone }),
    /** By `linkKey`: the manifests of a repository. */
    manifests: createCollection({ store, name: 'hosted.manifest', schema: manifestSchema }),
    /** By `linkKey`: the blobs that a repository links. */
    blobs: createCollection({ store, name: BLOBS, schema: blobSchema }),
    /** By `holderKey`: which repositories need some content. */
    holders: createCollection({ store, name: 'hosted.holder', schema: keyAlone }),
    /** By `linkKey` and the parent: which manifests of a repository refer to a digest. */
    references: createCollection({ store, name: 'hosted.reference', schema: keyAlone }),
    /** By `linkKey` of the subject and the referrer: its descriptor. */
    referrers: createCollection({ store, name: 'hosted.referrer', schema: referrerSchema }),
    /** By the id of the session. */
    uploads: createCollection({ store, name: 'hosted.upload', schema: uploadSchema }),
    /** By the id of a collection: content that it has unlinked, and may not have deleted yet. */
    removals: createCollection({ store, name: 'hosted.removal', schema: removalSchema }),
  };
}

// Names have no colon, no at-sign and no space, tags no colon and no space: no two repositories share a prefix of these.
export const tagKey = (repository: string, tag: string) => `${repository}:${tag}`;
export const linkKey = (repository: string, digest: Digest) => `${repository}@${digest}`;
/** A key of tagged, references and referrers; without `member` the prefix of all of them. */
export const memberKey = (repository: string, digest: Digest, member = '') =>
  `${linkKey(repository, digest)} ${member}`;
export const holderKey = (digest: Digest, as: 'blob' | 'manifest', repository = '') => `${digest} ${as} ${repository}`;
/** The prefix of all holders of a digest. */
export const holdersKey = (digest: Digest) => `${digest} `;

/** The last parts of all keys that `memberKey` makes for a digest. */
export async function membersOf(
  collection: { list(options: ListOptions): Promise<readonly string[]> },
  repository: string,
  digest: Digest,
): Promise<readonly string[]> {
  const prefix = memberKey(repository, digest);
  return (await Array.fromAsync(keysOf(collection, prefix))).map(key => key.slice(prefix.length));
}

/** A repository is not created explicitly: it exists while it has a manifest or links a blob. */
export async function hasRepository(records: HostedRecords, repository: string): Promise<boolean> {
  // A tag points to a manifest of its repository, always.
  const page = { prefix: `${repository}@`, limit: 1 };
  return (await records.manifests.list(page)).length > 0 || (await records.blobs.list(page)).length > 0;
}

/** The error for something missing in a repository: NAME_UNKNOWN where the repository is empty. */
export async function absent(
  records: HostedRecords,
  repository: string,
  code: ErrorCode,
  what: string,
): Promise<RegistryError> {
  if (await hasRepository(records, repository)) return new RegistryError(code, `${repository} has no ${what}`);
  return new RegistryError('NAME_UNKNOWN', `there is no repository ${repository}`);
}

/** All repositories that have any content, in the order of their keys. */
export async function* repositoriesOf(records: HostedRecords): AsyncGenerator<string> {
  let after = '';
  for (;;) {
    const firsts = await Promise.all([
      records.manifests.list({ after, limit: 1 }),
      records.blobs.list({ after, limit: 1 }),
    ]);
    const [next] = firsts.flat().map(prefixOf).sort();
    if (next === undefined) return;
    yield next.slice(0, -1);
    // A digest begins with a letter, so this is beyond all digests of the repository.
    after = `${next}~`;
  }
}

/** `<repository>@` of a link: the keys of links sort by it. */
function prefixOf(key: string): string {
  return key.slice(0, key.indexOf('@') + 1);
}
