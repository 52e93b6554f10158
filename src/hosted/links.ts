// Links: the records of a repository's content that a push or mount adds and a removal deletes, all at once. Content is stored once for all
// repositories, and read only through a link. Everything that writes, apart from linkBlob, is to be called inside `withLock`, with its store.
import { type Digest, parseDigest } from '../oci/digest.ts';
import { type Change, type Expectation, keysOf, type Lock, repeatOnConflict } from '../state/store.ts';
import {
  type BlobRecord,
  holderKey,
  linkKey,
  type ManifestRecord,
  memberKey,
  membersOf,
  type Referrer,
  tagKey,
} from './records.ts';
import type { ManifestDocument } from './repository/manifest-document.ts';
import type { HostedChange, HostedStore } from './store.ts';

export interface ManifestLink {
  readonly repository: string;
  readonly digest: Digest;
  readonly size: number;
  readonly document: ManifestDocument;
  readonly tags: readonly string[];
}

/** Links a manifest whose content is stored, and points the tags to it, with that push time. */
export async function linkManifest(store: HostedStore, link: ManifestLink, at = store.now()): Promise<void> {
  const { records, options } = store;
  const { repository, digest, size, document, tags } = link;
  const key = linkKey(repository, digest);
  const isNew = !(await records.manifests.has(key));
  const previous = await records.manifests.find(key);
  const references = [...new Set([...document.blobs, ...document.manifests].map(descriptor => descriptor.digest))];
  const pushedAt = at.toISOString();
  const { mediaType, subject } = document;
  const record = { mediaType, size, references, subject: subject?.digest, pushedAt };
  const tagChanges = await Promise.all(tags.map(tag => tagChangesOf(store, repository, tag, { digest, pushedAt })));
  const changes = [
    ...(previous ? referenceRemovals(store, repository, digest, previous) : []),
    records.manifests.putting(key, record),
    records.holders.putting(holderKey(digest, 'manifest', repository), {}),
    ...references.map(child => records.references.putting(memberKey(repository, child, digest), {})),
    ...(subject ? [records.referrers.putting(memberKey(repository, subject.digest, digest), referrerOf(link))] : []),
    ...tagChanges.flat(),
  ];
  await (isNew ? writeAccounted(store, repository, { bytes: size, changes }) : records.write(changes));
  const change = { kind: 'push', repository, digest, mediaType, size } as const;
  const pushed = tags.length === 0 ? [change] : tags.map(tag => ({ ...change, tag }));
  await Promise.all(pushed.map(options.onChange));
}

interface AccountedWrite {
  /** What the repository links in addition; negative: less. */
  readonly bytes: number;
  readonly changes: readonly Change[];
  readonly expected?: readonly Expectation[];
}

function writeAccounted(store: HostedStore, repository: string, write: AccountedWrite): Promise<void> {
  const { bytes, changes, expected = [] } = write;
  return store.options.quota.account(repository, bytes, accounts =>
    store.records.write([...accounts.changes, ...changes], {
      ...(bytes < 0 && { makesRoom: true }),
      expected: [...expected, ...accounts.expected],
    }),
  );
}

/** The changes that point a tag to a manifest. */
export async function tagChangesOf(
  store: HostedStore,
  repository: string,
  tag: string,
  next: { readonly digest: Digest; readonly pushedAt: string },
): Promise<readonly Change[]> {
  const { records } = store;
  const key = tagKey(repository, tag);
  const current = await findTagged(store, repository, tag);
  const isMoved = current !== undefined && current !== next.digest;
  return [
    ...(isMoved ? await noteUntagged(store, { repository, digest: current }, store.now()) : []),
    ...(current ? [records.tagged.deleting(memberKey(repository, current, tag))] : []),
    records.tags.putting(key, next),
    records.tagged.putting(memberKey(repository, next.digest, tag), {}),
  ];
}

/** distribution-spec "Listing Referrers": the descriptor of a manifest with a subject. */
function referrerOf({ digest, size, document }: ManifestLink): Referrer {
  const { mediaType, artifactType, annotations } = document;
  return { mediaType, digest, size, ...(artifactType && { artifactType }), ...(annotations && { annotations }) };
}

/** Removes a manifest, its tags, and its content with the last link. */
export async function unlinkManifest(
  store: HostedStore,
  repository: string,
  digest: Digest,
  record: ManifestRecord,
): Promise<void> {
  const { records, options } = store;
  const { mediaType, size } = record;
  const tags = await membersOf(records.tagged, repository, digest);
  const changes = [
    ...referenceRemovals(store, repository, digest, record),
    records.manifests.deleting(linkKey(repository, digest)),
    records.holders.deleting(holderKey(digest, 'manifest', repository)),
    ...tags.map(tag => records.tags.deleting(tagKey(repository, tag))),
    ...tags.map(tag => records.tagged.deleting(memberKey(repository, digest, tag))),
  ];
  await writeAccounted(store, repository, { bytes: -size, changes });
  const change = { kind: 'delete', repository, digest, mediaType, size } as const;
  await Promise.all([...tags.map(tag => ({ ...change, tag })), change].map(options.onChange));
  await store.deleteUnlinked(digest);
}

/** The record of a manifest, if there is one, for its removal: where it is unreadable, reconstructed from other records. */
export async function findManifestRecord(
  { records, content }: HostedStore,
  repository: string,
  digest: Digest,
): Promise<ManifestRecord | undefined> {
  const key = linkKey(repository, digest);
  const record = await records.manifests.find(key);
  if (record || !(await records.manifests.has(key))) return record;
  const prefix = `${repository}@`;
  const end = ` ${digest}`;
  const namedBy = async (collection: Parameters<typeof keysOf>[0]) => {
    const keys = await Array.fromAsync(keysOf(collection, prefix));
    return keys.filter(each => each.endsWith(end)).map(each => parseDigest(each.slice(prefix.length, -end.length)));
  };
  const [subject] = await namedBy(records.referrers);
  const { size = 0 } = (await content.find(digest)) ?? {};
  return { mediaType: '', size, references: await namedBy(records.references), subject, pushedAt: '' };
}

/** Removes the records of the manifest's references. */
function referenceRemovals(
  { records }: HostedStore,
  repository: string,
  digest: Digest,
  record: ManifestRecord,
): readonly Change[] {
  return [
    ...record.references.map(child => records.references.deleting(memberKey(repository, child, digest))),
    ...(record.subject ? [records.referrers.deleting(memberKey(repository, record.subject, digest))] : []),
  ];
}

export interface TagLink {
  readonly repository: string;
  readonly tag: string;
  /** Its target. */
  readonly digest: Digest;
}

/** Removes a tag; its manifest stays, and records when that was. */
export async function unlinkTag(store: HostedStore, link: TagLink, at = store.now()): Promise<void> {
  const { records, options } = store;
  const { repository, tag, digest } = link;
  await records.write(
    [
      records.tags.deleting(tagKey(repository, tag)),
      records.tagged.deleting(memberKey(repository, digest, tag)),
      ...(await noteUntagged(store, link, at)),
    ],
    { makesRoom: true },
  );
  const { mediaType = '', size = 0 } = (await records.manifests.find(linkKey(repository, digest))) ?? {};
  await options.onChange({ kind: 'delete', repository, digest, tag, mediaType, size });
}

/** The target of a tag, if any, for moving or removing it: where its own record is unreadable, found through those of the manifests. */
export async function findTagged(
  { records }: HostedStore,
  repository: string,
  tag: string,
): Promise<Digest | undefined> {
  const key = tagKey(repository, tag);
  const record = await records.tags.find(key);
  if (record || !(await records.tags.has(key))) return record?.digest;
  const prefix = `${repository}@`;
  const end = ` ${tag}`;
  for await (const each of keysOf(records.tagged, prefix)) {
    if (each.endsWith(end)) return parseDigest(each.slice(prefix.length, -end.length));
  }
  return undefined;
}

/** A manifest records when it last lost a tag: garbage collection may remove it some time after that. */
async function noteUntagged(
  { records }: HostedStore,
  { repository, digest }: Omit<TagLink, 'tag'>,
  at: Date,
): Promise<readonly Change[]> {
  const key = linkKey(repository, digest);
  const manifest = await records.manifests.find(key);
  return manifest ? [records.manifests.putting(key, { ...manifest, untaggedAt: at.toISOString() })] : [];
}

interface BlobLink {
  readonly repository: string;
  readonly digest: Digest;
  readonly size: number;
}

/** The link, where its content is present with the same size. Lost content counts as missing, so that the next push uploads it again. */
export async function findBlob(
  store: HostedStore,
  repository: string,
  digest: Digest,
): Promise<BlobRecord | undefined> {
  const link = await store.records.blobs.find(linkKey(repository, digest));
  const found = link && (await store.content.find(digest));
  return found?.size === link?.size ? link : undefined;
}

interface BlobLinkOptions {
  /** Written with the link. */
  readonly also?: readonly Change[];
  /** What has to be true still, so that the content is there: its lease, or the link of another repository. */
  readonly expected?: readonly Expectation[];
}

/** Links stored content, or records that it was pushed again. Throws RecordConflict where something is not as expected. */
export async function linkBlob(
  store: HostedStore,
  link: BlobLink,
  { at = store.now(), ...options }: BlobLinkOptions & { readonly at?: Date } = {},
): Promise<void> {
  await linkBlobs(store, link.repository, { works: [{ link, ...options }], at });
}

interface LinkWork extends BlobLinkOptions {
  readonly link: BlobLink;
}

interface LinkWorks {
  readonly works: readonly LinkWork[];
  readonly at?: Date;
}

/** All of one repository, in one transaction. */
async function linkBlobs(store: HostedStore, repository: string, { works, at = store.now() }: LinkWorks) {
  const { records, options } = store;
  const pushedAt = at.toISOString();
  const links = new Map(works.map(({ link }) => [linkKey(repository, link.digest), link]));
  const given = works.flatMap(({ expected = [] }) => expected);
  const changes = [
    ...links
      .entries()
      .flatMap(([key, { digest, size }]) => [
        records.blobs.putting(key, { size, pushedAt }),
        records.holders.putting(holderKey(digest, 'blob', repository), {}),
      ]),
    ...works.flatMap(({ also = [] }) => also),
  ];
  const isOwn = ({ key }: { readonly key: string }) => links.has(key) && !given.some(record => record.key === key);
  await repeatOnConflict(isOwn, async () => {
    const before: Expectation[] = [];
    for (const key of links.keys()) before.push((await records.blobs.expecting(key)).expected);
    const fresh = before.filter(({ value }) => !value);
    const bytes = fresh.reduce((sum, { key }) => sum + (links.get(key)?.size ?? 0), 0);
    const expected = [...before, ...given];
    if (fresh.length === 0) await records.write(changes, { expected });
    else await writeAccounted(store, repository, { bytes, changes, expected });
  });
  for (const { link } of works) await options.onChange(changeOf('push', link));
}

/** Links stored content; `also` is written with it, and `lease` is that of the content. */
type BlobLinker = (
  link: BlobLink,
  options: { readonly also: readonly Change[]; readonly lease: Lock | undefined },
) => Promise<void>;

interface WaitingLink extends LinkWork {
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** What waits for the lock is linked together: a transaction waits for the disk, however much is in it. */
export function createBlobLinker(store: HostedStore): BlobLinker {
  const waiting = new Map<string, WaitingLink[]>();

  /** Where all of them cannot be linked, each is for itself. */
  async function linkAll(repository: string, works: readonly WaitingLink[]): Promise<void> {
    try {
      await linkBlobs(store, repository, { works });
      for (const { resolve } of works) resolve();
    } catch (error) {
      if (works.length === 1) works[0]?.reject(error);
      else for (const work of works) await linkAll(repository, [work]);
    }
  }

  async function linkWaiting(repository: string): Promise<void> {
    const take = () => {
      const works = waiting.get(repository) ?? [];
      waiting.delete(repository);
      return works;
    };
    await store
      .withLock(repository, () => linkAll(repository, take()))
      .catch(error => {
        for (const { reject } of take()) reject(error);
      });
  }

  return (link, { also, lease }) => {
    // The fence of a lease is of one content alone, and needs no lock.
    if (lease) return linkBlob(store, link, { also, expected: lease.fence });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const works = waiting.get(link.repository);
    if (works) {
      works.push({ link, also, resolve, reject });
    } else {
      waiting.set(link.repository, [{ link, also, resolve, reject }]);
      void linkWaiting(link.repository);
    }
    return promise;
  };
}

/**
 * Unlinks a blob, and deletes its content with the last link. Throws RecordConflict where the link is not as expected: it was pushed again
 * meanwhile.
 */
export async function unlinkBlob(store: HostedStore, link: BlobLink, expected: Expectation): Promise<void> {
  await unlinkBlobs(store, link.repository, [{ link, expected }]);
}

export interface ExpectedLink {
  readonly link: BlobLink;
  readonly expected: Expectation;
}

/** The same for many of one repository, in one transaction: all of them, or none where one is not as expected. */
export async function unlinkBlobs(
  store: HostedStore,
  repository: string,
  links: readonly ExpectedLink[],
): Promise<void> {
  const { records, options } = store;
  const bytes = links.reduce((sum, { link }) => sum + link.size, 0);
  const changes = links.flatMap(({ link: { digest } }) => [
    records.blobs.deleting(linkKey(repository, digest)),
    records.holders.deleting(holderKey(digest, 'blob', repository)),
  ]);
  await writeAccounted(store, repository, { bytes: -bytes, changes, expected: links.map(({ expected }) => expected) });
  for (const { link } of links) await options.onChange(changeOf('delete', link));
  await Promise.all(links.map(({ link }) => store.deleteUnlinked(link.digest)));
}

function changeOf(kind: HostedChange['kind'], link: BlobLink): HostedChange {
  return { kind, ...link, mediaType: 'application/octet-stream' };
}
