// Tags of a repository. distribution-spec "Listing Tags", "Deleting tags".
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { findTagged, unlinkTag } from '../links.ts';
import { absent, hasRepository, tagKey } from '../records.ts';
import type { HostedStore } from '../store.ts';
import { refuseTagRemoval } from './integrity.ts';

export interface HostedTags {
  /** Throws MANIFEST_UNKNOWN, or NAME_UNKNOWN where the repository is empty. */
  resolve(repository: string, tag: string): Promise<Digest>;
  /** In ASCII order, after `last`, at most 10 000 of them. Throws NAME_UNKNOWN where the repository is empty. */
  list(
    repository: string,
    page: { readonly n?: number | undefined; readonly last?: string | undefined },
  ): Promise<{ readonly tags: readonly string[]; readonly hasMore: boolean }>;
  /** Throws as `resolve` does, DENIED for an immutable tag, UNSUPPORTED where deleting tags is disabled. */
  delete(repository: string, tag: string): Promise<void>;
}

/** More are listed page by page. */
const MAX_PAGE = 10_000;

export function createTags(store: HostedStore): HostedTags {
  const { records, options } = store;

  async function get(repository: string, tag: string) {
    const record = await records.tags.get(tagKey(repository, tag));
    if (!record) throw await unknown(repository, tag);
    return record;
  }

  const unknown = (repository: string, tag: string) => absent(records, repository, 'MANIFEST_UNKNOWN', `tag ${tag}`);

  async function deleteNow(repository: string, tag: string): Promise<void> {
    const digest = await findTagged(store, repository, tag);
    if (digest === undefined && !(await records.tags.has(tagKey(repository, tag))))
      throw await unknown(repository, tag);
    refuseTagRemoval(store, repository, tag);
    if (digest) await unlinkTag(store, { repository, tag, digest });
    else await records.tags.delete(tagKey(repository, tag));
  }

  return {
    resolve: async (repository, tag) => (await get(repository, tag)).digest,
    async list(repository, { n = MAX_PAGE, last = '' }) {
      const limit = Math.max(0, Math.min(n, MAX_PAGE));
      const prefix = tagKey(repository, '');
      const keys = await records.tags.list({ prefix, after: tagKey(repository, last), limit: limit + 1 });
      if (keys.length === 0 && !(await hasRepository(records, repository))) {
        throw new RegistryError('NAME_UNKNOWN', `there is no repository ${repository}`);
      }
      const tags = keys.slice(0, limit).map(key => key.slice(prefix.length));
      return { tags, hasMore: limit > 0 && keys.length > limit };
    },
    async delete(repository, tag) {
      if (!options.deletes.tags) throw new RegistryError('UNSUPPORTED', 'tags cannot be deleted from this registry');
      await store.withLock(() => deleteNow(repository, tag));
    },
  };
}
