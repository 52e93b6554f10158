// The records of a manifest: what a push adds to them, and a removal takes away.
import { type Digest, parseDigest } from '../oci/digest.ts';
import type { Change } from '../state/store.ts';
import type { ManifestDocument } from './document.ts';
import {
  holderKey,
  keysOf,
  linkKey,
  type ManifestRecord,
  memberKey,
  membersOf,
  type Referrer,
  tagKey,
} from './records.ts';
import type { Room } from './room.ts';
import { findTagged, noteUntagged } from './tag-links.ts';

export interface ManifestLink {
  readonly repository: string;
  readonly digest: Digest;
  readonly size: number;
  readonly document: ManifestDocument;
  readonly tags: readonly string[];
}

/** Links a manifest whose content is kept, and points the tags to it, all at once, as pushed at that time. Inside `exclusively`. */
export async function linkManifest(room: Room, link: ManifestLink, at = room.now()): Promise<void> {
  const { records, options } = room;
  const { repository, digest, size, document, tags } = link;
  const key = linkKey(repository, digest);
  const isNew = !(await records.manifests.has(key));
  const previous = await records.manifests.find(key);
  const references = [...new Set([...document.blobs, ...document.manifests].map(descriptor => descriptor.digest))];
  const pushedAt = at.toISOString();
  const { mediaType, subject } = document;
  const record = { mediaType, size, references, subject: subject?.digest, pushedAt };
  const tagChanges = await Promise.all(tags.map(tag => tagChangesOf(room, repository, tag, { digest, pushedAt })));
  await records.write([
    ...(isNew ? await options.quota.account(repository, digest, size) : []),
    ...(previous ? leavingsOf(room, repository, digest, previous) : []),
    records.manifests.putting(key, record),
    records.holders.putting(holderKey(digest, 'manifest', repository), {}),
    ...references.map(child => records.references.putting(memberKey(repository, child, digest), {})),
    ...(subject ? [records.referrers.putting(memberKey(repository, subject.digest, digest), referrerOf(link))] : []),
    ...tagChanges.flat(),
  ]);
  const change = { kind: 'push', repository, digest, mediaType, size } as const;
  const changes = tags.length === 0 ? [change] : tags.map(tag => ({ ...change, tag }));
  await Promise.all(changes.map(options.onChange));
}

/** What pointing a tag to a manifest changes. */
export async function tagChangesOf(
  room: Room,
  repository: string,
  tag: string,
  next: { readonly digest: Digest; readonly pushedAt: string },
): Promise<readonly Change[]> {
  const { records } = room;
  const key = tagKey(repository, tag);
  const current = await findTagged(room, repository, tag);
  const isMoved = current !== undefined && current !== next.digest;
  return [
    ...(isMoved ? await noteUntagged(room, { repository, digest: current }, room.now()) : []),
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

/** Removes a manifest, its tags, and its content with the last link. Inside `exclusively`. */
export async function unlinkManifest(
  room: Room,
  repository: string,
  digest: Digest,
  record: ManifestRecord,
): Promise<void> {
  const { records, options } = room;
  const { mediaType, size } = record;
  const tags = await membersOf(records.tagged, repository, digest);
  await records.write(
    [
      ...(await options.quota.account(repository, digest, -size)),
      ...leavingsOf(room, repository, digest, record),
      records.manifests.deleting(linkKey(repository, digest)),
      records.holders.deleting(holderKey(digest, 'manifest', repository)),
      ...tags.map(tag => records.tags.deleting(tagKey(repository, tag))),
      ...tags.map(tag => records.tagged.deleting(memberKey(repository, digest, tag))),
    ],
    { makesRoom: true },
  );
  const change = { kind: 'delete', repository, digest, mediaType, size } as const;
  await Promise.all([...tags.map(tag => ({ ...change, tag })), change].map(options.onChange));
  await room.deleteUnlinked(digest);
}

/** The record of a manifest, if there is one. For whoever removes it: where it cannot be read, what others say of it. */
export async function findManifestRecord(
  { records, content }: Room,
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

/** Takes out what a manifest says about others. */
function leavingsOf({ records }: Room, repository: string, digest: Digest, record: ManifestRecord): readonly Change[] {
  return [
    ...record.references.map(child => records.references.deleting(memberKey(repository, child, digest))),
    ...(record.subject ? [records.referrers.deleting(memberKey(repository, record.subject, digest))] : []),
  ];
}
