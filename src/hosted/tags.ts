// Tags of a repository. distribution-spec "Listing Tags", "Deleting tags".
import { RegistryError } from '../oci/errors.ts';
import type { HostedTags } from './hosted.ts';
import { refuseTagRemoval } from './immutable.ts';
import { tagKey } from './records.ts';
import { absent, hasRepository } from './repositories.ts';
import type { Room } from './room.ts';
import { findTagged, unlinkTag } from './tag-links.ts';

/** More than that come page by page. */
const MAX_PAGE = 10_000;

export function createTags(room: Room): HostedTags {
  const { records, options } = room;

  async function get(repository: string, tag: string) {
    const record = await records.tags.get(tagKey(repository, tag));
    if (!record) throw await unknown(repository, tag);
    return record;
  }

  const unknown = (repository: string, tag: string) => absent(room, repository, 'MANIFEST_UNKNOWN', `tag ${tag}`);

  async function deleteNow(repository: string, tag: string): Promise<void> {
    const digest = await findTagged(room, repository, tag);
    if (digest === undefined && !(await records.tags.has(tagKey(repository, tag))))
      throw await unknown(repository, tag);
    refuseTagRemoval(room, repository, tag);
    if (digest) await unlinkTag(room, { repository, tag, digest });
    else await records.tags.delete(tagKey(repository, tag));
  }

  return {
    resolve: async (repository, tag) => (await get(repository, tag)).digest,
    async list(repository, { n = MAX_PAGE, last = '' }) {
      const limit = Math.max(0, Math.min(n, MAX_PAGE));
      const prefix = tagKey(repository, '');
      const keys = await records.tags.list({ prefix, after: tagKey(repository, last), limit: limit + 1 });
      if (keys.length === 0 && !(await hasRepository(room, repository))) {
        throw new RegistryError('NAME_UNKNOWN', `there is no repository ${repository}`);
      }
      const tags = keys.slice(0, limit).map(key => key.slice(prefix.length));
      return { tags, hasMore: limit > 0 && keys.length > limit };
    },
    async delete(repository, tag) {
      if (!options.deletes.tags) throw new RegistryError('UNSUPPORTED', 'tags cannot be deleted from this registry');
      await room.exclusively(() => deleteNow(repository, tag));
    },
  };
}
