// Links: the records of a repository's content that a push or mount adds and a removal deletes, all at once. Content is stored once for all
// repositories, and read only through a link. Everything that writes, apart from linkBlob, is to be called inside `withLock`, with its store.
import { type Digest, parseDigest } from '../oci/digest.ts';
import { type Change, type Expectation, keysOf, repeatOnConflict } from '../state/store.ts';
import {
  BLOBS,
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

/** What links content, before it is written. */
export interface PreparedLink {
  /** What the repository links in addition. */
  readonly bytes: number;
  readonly changes: readonly Change[];
  /** What has to be true still. */
  readonly expected?: readonly Expectation[];
  /** Called once it is written. */
  readonly report: () => Promise<unknown>;
}

/** Links a manifest whose content is stored, and points the tags to it, with that push time. */
export async function linkManifest(store: HostedStore, link: ManifestLink, at?: Date): Promise<void> {
  await writeLinks(store, link.repository, [await prepareManifest(store, link, at)]);
}

export async function prepareManifest(store: HostedStore, link: ManifestLink, at = store.now()): Promise<PreparedLink> {
  const { records } = store;
  const { repository, digest, size, document, tags } = link;
  const key = linkKey(repository, digest);
  const { record: previous, expected } = await records.manifests.expecting(key);
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
  const change = { kind: 'push', repository, digest, mediaType, size } as const;
  const pushed = tags.length === 0 ? [change] : tags.map(tag => ({ ...change, tag }));
  const report = () => Promise.all(pushed.map(store.options.onChange));
  return { bytes: expected.value ? 0 : size, changes, report };
}

/** All of one repository, in one transaction. */
export async function writeLinks(
  store: HostedStore,
  repository: string,
  links: readonly PreparedLink[],
): Promise<void> {
  const bytes = links.reduce((sum, link) => sum + link.bytes, 0);
  const changes = links.flatMap(link => link.changes);
  const expected = links.flatMap(link => link.expected ?? []);
  if (bytes === 0) await store.records.write(changes, { expected });
  else await writeAccounted(store, repository, { bytes, changes, expected });
  for (const { report } of links) await report();
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
  await unlinkManifests(store, repository, { manifests: [{ digest, record }] });
  await store.deleteUnlinked(digest);
}

export interface RecordedManifest {
  readonly digest: Digest;
  readonly record: ManifestRecord;
}

/** Removes many of one repository, and their tags, in one transaction, as `unlinkBlobs` does. */
export async function unlinkManifests(
  store: HostedStore,
  repository: string,
  { manifests, also = [] }: { readonly manifests: readonly RecordedManifest[]; readonly also?: readonly Change[] },
): Promise<void> {
  const bytes = manifests.reduce((sum, { record }) => sum + record.size, 0);
  const removals: ManifestRemoval[] = [];
  for (const manifest of manifests) removals.push(await prepareRemoval(store, repository, manifest));
  const changes = removals.flatMap(removal => removal.changes);
  await writeAccounted(store, repository, { bytes: -bytes, changes: [...changes, ...also] });
  for (const { events } of removals) await Promise.all(events.map(store.options.onChange));
}

interface ManifestRemoval {
  readonly changes: readonly Change[];
  readonly events: readonly HostedChange[];
}

async function prepareRemoval(
  store: HostedStore,
  repository: string,
  { digest, record }: RecordedManifest,
): Promise<ManifestRemoval> {
  const { records } = store;
  const { mediaType, size } = record;
  const tags = await membersOf(records.tagged, repository, digest);
  const event = { kind: 'delete', repository, digest, mediaType, size } as const;
  return {
    changes: [
      ...referenceRemovals(store, repository, digest, record),
      records.manifests.deleting(linkKey(repository, digest)),
      records.holders.deleting(holderKey(digest, 'manifest', repository)),
      ...tags.map(tag => records.tags.deleting(tagKey(repository, tag))),
      ...tags.map(tag => records.tagged.deleting(memberKey(repository, digest, tag))),
    ],
    events: [...tags.map(tag => ({ ...event, tag })), event],
  };
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
  const { record, expected } = await records.tags.expecting(key);
  if (record || !expected.value) return record?.digest;
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

export interface BlobLink {
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
  { at, ...options }: BlobLinkOptions & { readonly at?: Date } = {},
): Promise<void> {
  const isOwn = ({ key }: { readonly key: string }) =>
    key === linkKey(link.repository, link.digest) && !options.expected?.some(record => record.key === key);
  await repeatOnConflict(isOwn, async () =>
    writeLinks(store, link.repository, [await prepareBlob(store, link, { at, ...options })]),
  );
}

export async function prepareBlob(
  { records, now, options }: HostedStore,
  link: BlobLink,
  { at = now(), also = [], expected = [] }: BlobLinkOptions & { readonly at?: Date | undefined },
): Promise<PreparedLink> {
  const { repository, digest, size } = link;
  const key = linkKey(repository, digest);
  const before = (await records.blobs.expecting(key)).expected;
  return {
    bytes: before.value ? 0 : size,
    changes: [
      records.blobs.putting(key, { size, pushedAt: at.toISOString() }),
      records.holders.putting(holderKey(digest, 'blob', repository), {}),
      ...also,
    ],
    expected: [before, ...expected],
    report: async () => options.onChange(changeOf('push', link)),
  };
}

/** Whether a conflict was about the link of a blob. */
export function isLink({ collection }: { readonly collection: string }): boolean {
  return collection === BLOBS;
}

/**
 * Unlinks a blob, and deletes its content with the last link. Throws RecordConflict where the link is not as expected: it was pushed again
 * meanwhile.
 */
export async function unlinkBlob(store: HostedStore, link: BlobLink, expected: Expectation): Promise<void> {
  await unlinkBlobs(store, link.repository, { links: [{ link, expected }] });
  await store.deleteUnlinked(link.digest);
}

export interface ExpectedLink {
  readonly link: BlobLink;
  readonly expected: Expectation;
}

/**
 * Unlinks many of one repository in one transaction, together with the changes of `also`: all of them, or none where one is not as expected.
 * Their content is to be deleted afterwards, which needs no lock.
 */
export async function unlinkBlobs(
  store: HostedStore,
  repository: string,
  { links, also = [] }: { readonly links: readonly ExpectedLink[]; readonly also?: readonly Change[] },
): Promise<void> {
  const { records, options } = store;
  const bytes = links.reduce((sum, { link }) => sum + link.size, 0);
  const changes = links.flatMap(({ link: { digest } }) => [
    records.blobs.deleting(linkKey(repository, digest)),
    records.holders.deleting(holderKey(digest, 'blob', repository)),
  ]);
  const expected = links.map(link => link.expected);
  await writeAccounted(store, repository, { bytes: -bytes, changes: [...changes, ...also], expected });
  for (const { link } of links) await options.onChange(changeOf('delete', link));
}

function changeOf(kind: HostedChange['kind'], link: BlobLink): HostedChange {
  return { kind, ...link, mediaType: 'application/octet-stream' };
}
