// Blobs of a repository: reading, mounting and deleting. distribution-spec "Pulling blobs", "Mounting a blob from another repository".
import type { ByteRange } from '../../oci/bytes.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { parseRepository } from '../../oci/reference.ts';
import { repeatOnConflict } from '../../state/store.ts';
import { findBlob, isLink, linkBlob, unlinkBlob } from '../links.ts';
import { holderKey, linkKey, memberKey } from '../records.ts';
import { type HostedStore, refuseFullDisk } from '../store.ts';

export interface HostedBlobs {
  /** The size in bytes. Throws BLOB_UNKNOWN unless this repository links the blob. */
  head(repository: string, digest: Digest): Promise<{ readonly size: number }>;
  get(repository: string, digest: Digest): Promise<HostedBlob>;
  /** Links a blob of `from`, or else of any repository that `isReadable`; false where there is none, and an upload must follow. */
  mount(repository: string, digest: Digest, source: MountSource): Promise<boolean>;
  /**
   * Unlinks the blob from this repository. Throws UNSUPPORTED while a manifest of the repository refers to it, or where deletion is
   * disabled.
   */
  delete(repository: string, digest: Digest): Promise<void>;
}

interface MountSource {
  readonly from?: string | undefined;
  /** Whether the caller may pull from a repository: a mount must not expose what a pull would not. */
  readonly isReadable: (repository: string) => boolean;
}

interface HostedBlob {
  readonly size: number;
  /** The caller reads the stream to its end or cancels it. */
  open(range?: ByteRange): Promise<ReadableStream<Uint8Array>>;
  /** As ContentStore.locate. */
  locate(): Promise<string | undefined>;
}

/** How many repositories are checked for a mount that names no source. */
const MAX_SOURCES = 100;

export function createBlobs(store: HostedStore): HostedBlobs {
  const { content, records, options } = store;

  async function head(repository: string, digest: Digest): Promise<{ readonly size: number }> {
    await store.recentAccess.touch(linkKey(repository, digest));
    const link = await findBlob(store, repository, digest);
    if (!link) throw unknownBlob(repository, digest);
    return { size: link.size };
  }

  async function mountNow(repository: string, digest: Digest, source: MountSource): Promise<boolean> {
    for (const candidate of [repository, ...(await sourcesOf(digest, source))]) {
      // While its link is as it was read, the content stays.
      const { expected } = await records.blobs.expecting(linkKey(candidate, digest));
      const blob = await findBlob(store, candidate, digest);
      if (blob && expected.value) {
        await linkBlob(store, { repository, digest, size: blob.size }, { expected: [expected] });
        return true;
      }
    }
    return false;
  }

  async function sourcesOf(digest: Digest, { from, isReadable }: MountSource): Promise<readonly string[]> {
    const prefix = holderKey(digest, 'blob');
    const holders = await records.holders.list({ prefix, limit: MAX_SOURCES });
    const others = holders.map(key => key.slice(prefix.length));
    return (from === undefined ? others : [from, ...others]).filter(isReadable);
  }

  async function deleteNow(locked: HostedStore, repository: string, digest: Digest): Promise<void> {
    const { record, expected } = await records.blobs.expecting(linkKey(repository, digest));
    if (!expected.value) throw unknownBlob(repository, digest);
    const prefix = memberKey(repository, digest);
    const [parent] = await records.references.list({ prefix, limit: 1 });
    if (parent !== undefined) {
      throw new RegistryError('UNSUPPORTED', `the manifest ${parent.slice(prefix.length)} refers to ${digest}`);
    }
    // Unreadable records are deleted as well.
    const { size } = record ?? (await content.find(digest)) ?? { size: 0 };
    await unlinkBlob(locked, { repository, digest, size }, expected);
  }

  return {
    head,
    async get(repository, digest) {
      const { size } = await head(repository, digest);
      return {
        size,
        async open(range) {
          const body = await content.open(digest, range);
          if (!body) throw unknownBlob(repository, digest);
          return body;
        },
        locate: async () => content.locate?.(digest),
      };
    },
    async mount(repository, digest, source) {
      parseRepository(repository);
      return refuseFullDisk(() => repeatOnConflict(isLink, () => mountNow(repository, digest, source)));
    },
    async delete(repository, digest) {
      if (!options.deletes.blobs) throw new RegistryError('UNSUPPORTED', 'blobs cannot be deleted from this registry');
      await store.withLock(repository, locked => repeatOnConflict(isLink, () => deleteNow(locked, repository, digest)));
    },
  };
}

function unknownBlob(repository: string, digest: Digest): RegistryError {
  return new RegistryError('BLOB_UNKNOWN', `${repository} has no blob ${digest}`, { detail: { digest } });
}
