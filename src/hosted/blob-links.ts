// Which blobs a repository links: content is kept once for all, and read only through a link.
import type { Digest } from '../oci/digest.ts';
import type { Change } from '../state/store.ts';
import type { HostedChange } from './options.ts';
import { type BlobRecord, holderKey, linkKey } from './records.ts';
import type { Room } from './room.ts';

export interface BlobLink {
  readonly repository: string;
  readonly digest: Digest;
  readonly size: number;
}

/** The link, where its content is there as it was kept. What is lost counts as unknown, so that the next push brings it again. */
export async function findBlob(room: Room, repository: string, digest: Digest): Promise<BlobRecord | undefined> {
  const link = await room.records.blobs.find(linkKey(repository, digest));
  const found = link && (await room.content.find(digest));
  return found?.size === link?.size ? link : undefined;
}

/** Links kept content, or notes that it was pushed again. Writes `also` with it. Inside `exclusively`. */
export async function linkBlob(
  room: Room,
  link: BlobLink,
  { also = [], at = room.now() }: { readonly also?: readonly Change[]; readonly at?: Date } = {},
): Promise<void> {
  const { records, options } = room;
  const { repository, digest, size } = link;
  const key = linkKey(repository, digest);
  const isNew = !(await records.blobs.has(key));
  const accounts = isNew ? await options.quota.account(repository, digest, size) : [];
  await records.write([
    ...accounts,
    records.blobs.putting(key, { size, pushedAt: at.toISOString() }),
    records.holders.putting(holderKey(digest, 'blob', repository), {}),
    ...also,
  ]);
  await options.onChange(changeOf('push', link));
}

/** Unlinks a blob, and deletes its content with the last link. Inside `exclusively`. */
export async function unlinkBlob(room: Room, link: BlobLink): Promise<void> {
  const { records, options } = room;
  const { repository, digest, size } = link;
  await records.write(
    [
      ...(await options.quota.account(repository, digest, -size)),
      records.blobs.deleting(linkKey(repository, digest)),
      records.holders.deleting(holderKey(digest, 'blob', repository)),
    ],
    { makesRoom: true },
  );
  await options.onChange(changeOf('delete', link));
  await room.deleteUnlinked(digest);
}

function changeOf(kind: HostedChange['kind'], link: BlobLink): HostedChange {
  return { kind, ...link, mediaType: 'application/octet-stream' };
}
