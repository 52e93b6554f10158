// The records of a tag: what its removal takes away.
import { type Digest, parseDigest } from '../oci/digest.ts';
import type { Change } from '../state/store.ts';
import { keysOf, linkKey, memberKey, tagKey } from './records.ts';
import type { Room } from './room.ts';

export interface TagLink {
  readonly repository: string;
  readonly tag: string;
  /** Where it points. */
  readonly digest: Digest;
}

/** Removes a tag; its manifest stays, and remembers when that was. Inside `exclusively`. */
export async function unlinkTag(room: Room, link: TagLink, at = room.now()): Promise<void> {
  const { records, options } = room;
  const { repository, tag, digest } = link;
  await records.write(
    [
      records.tags.deleting(tagKey(repository, tag)),
      records.tagged.deleting(memberKey(repository, digest, tag)),
      ...(await noteUntagged(room, link, at)),
    ],
    { makesRoom: true },
  );
  const { mediaType = '', size = 0 } = (await records.manifests.find(linkKey(repository, digest))) ?? {};
  await options.onChange({ kind: 'delete', repository, digest, tag, mediaType, size });
}

/** Where a tag points, if anywhere. For whoever moves or removes it: where its own record cannot be read, those of the manifests tell. */
export async function findTagged({ records }: Room, repository: string, tag: string): Promise<Digest | undefined> {
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

/** A manifest remembers when a tag left it: it may be collected some time after that. */
export async function noteUntagged(
  { records }: Room,
  { repository, digest }: Omit<TagLink, 'tag'>,
  at: Date,
): Promise<readonly Change[]> {
  const key = linkKey(repository, digest);
  const manifest = await records.manifests.find(key);
  return manifest ? [records.manifests.putting(key, { ...manifest, untaggedAt: at.toISOString() })] : [];
}
