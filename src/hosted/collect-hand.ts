// The hand of a collection: one that removes, and one that only remembers what the other would have removed. All else is the same for both.
import type { Digest } from '../oci/digest.ts';
import { type BlobLink, unlinkBlob } from './blob-links.ts';
import { unlinkManifest } from './manifest-links.ts';
import { holderKey, holdersKey, keysOf, linkKey, type ManifestRecord, memberKey, tagKey } from './records.ts';
import type { Room } from './room.ts';
import { type TagLink, unlinkTag } from './tag-links.ts';

interface ManifestTarget {
  readonly repository: string;
  readonly digest: Digest;
  readonly record: ManifestRecord;
}

/** All that removes is called inside `exclusively`. */
export interface Hand {
  /** Bytes that the disk gets back. */
  readonly freedBytes: number;
  /** Whether a record counts as removed although it is there. */
  isGone(key: string): boolean;
  /** By `linkKey`, as it is after all that was removed. */
  findManifest(key: string): Promise<ManifestRecord | undefined>;
  removeTag(link: TagLink): Promise<void>;
  removeManifest(target: ManifestTarget): Promise<void>;
  removeBlob(link: BlobLink): Promise<void>;
  /** Removes content that is not needed. */
  removeContent(content: { readonly digest: Digest; readonly size: number }): Promise<void>;
}

export function createRemover(room: Room, startedAt: Date): Hand {
  let freedBytes = 0;

  async function noteFreed({ digest, size }: { readonly digest: Digest; readonly size: number }): Promise<void> {
    if (!(await room.isNeeded(digest))) freedBytes += size;
  }

  return {
    get freedBytes() {
      return freedBytes;
    },
    isGone: () => false,
    findManifest: key => room.records.manifests.find(key),
    removeTag: link => unlinkTag(room, link, startedAt),
    async removeManifest({ repository, digest, record }) {
      await unlinkManifest(room, repository, digest, record);
      await noteFreed({ digest, size: record.size });
    },
    async removeBlob(link) {
      await unlinkBlob(room, link);
      await noteFreed(link);
    },
    async removeContent(content) {
      await room.deleteUnlinked(content.digest);
      await noteFreed(content);
    },
  };
}

/** Its memory grows with what would go. */
export function createRehearsal({ records }: Room, startedAt: Date): Hand {
  let freedBytes = 0;
  const gone = new Set<string>();
  const untagged = new Set<string>();
  const isGone: Hand['isGone'] = key => gone.has(key);

  async function noteFreed({ digest, size }: { readonly digest: Digest; readonly size: number }): Promise<void> {
    if (!(await hasMember(records.holders, holdersKey(digest), isGone))) freedBytes += size;
  }

  return {
    get freedBytes() {
      return freedBytes;
    },
    isGone,
    async findManifest(key) {
      const record = gone.has(key) ? undefined : await records.manifests.find(key);
      return record && untagged.has(key) ? { ...record, untaggedAt: startedAt.toISOString() } : record;
    },
    async removeTag({ repository, tag, digest }) {
      gone.add(tagKey(repository, tag));
      gone.add(memberKey(repository, digest, tag));
      untagged.add(linkKey(repository, digest));
    },
    async removeManifest({ repository, digest, record }) {
      gone.add(linkKey(repository, digest));
      gone.add(holderKey(digest, 'manifest', repository));
      for (const child of record.references) gone.add(memberKey(repository, child, digest));
      await noteFreed({ digest, size: record.size });
    },
    async removeBlob(link) {
      gone.add(holderKey(link.digest, 'blob', link.repository));
      await noteFreed(link);
    },
    removeContent: noteFreed,
  };
}

/** Whether there is a key with this prefix that is not gone. */
export async function hasMember(
  collection: Parameters<typeof keysOf>[0],
  prefix: string,
  isGone: Hand['isGone'],
): Promise<boolean> {
  for await (const key of keysOf(collection, prefix)) if (!isGone(key)) return true;
  return false;
}
