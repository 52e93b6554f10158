// Links: which content a repository holds. Content is kept once for all, but read only through a repository that links it.
import { z } from 'zod';
import { type Digest, isDigest } from '../oci/digest.ts';
import { createCollection } from '../state/collection.ts';
import type { RecordStore } from '../state/store.ts';
import { remember } from './remember.ts';
import { repositoryKey, type UpstreamRepository } from './upstream-repository.ts';

const linkSchema = z.object({
  /** Of a manifest: the Content-Type it was served with. */
  contentType: z.string().optional(),
  /** Of a blob, in bytes, as the upstream says it. */
  size: z.number().optional(),
});

export type Link = z.infer<typeof linkSchema>;

/** A link as a repository's list has it. */
export interface NamedLink {
  /** `<upstream>/<repository>` */
  readonly repository: string;
  readonly digest: Digest;
  readonly link: Link;
}

export interface Links {
  find(origin: UpstreamRepository, digest: Digest): Promise<Link | undefined>;
  /** On a full disk nothing is added, and the upstream is asked again. */
  add(origin: UpstreamRepository, digest: Digest, link?: Link): Promise<void>;
  /** The full names of the repositories that hold some content. */
  holdersOf(digest: Digest): Promise<readonly string[]>;
  /** All links, or those of one repository, in the order of their full names. */
  list(repository?: string): AsyncGenerator<NamedLink>;
  /** Removes all links to content that goes. On a full disk they stay, and lead to what is fetched anew. */
  forget(digests: readonly Digest[]): Promise<void>;
}

const PAGE = 500;
const MAX_HOLDERS = 10_000;

export function createLinks(records: RecordStore): Links {
  const links = createCollection({ store: records, name: 'link', schema: linkSchema });
  // The same, to be found by digest.
  const holders = createCollection({ store: records, name: 'linked', schema: z.object({}) });
  const keyOf = (repository: string, digest: Digest) => `${repository}@${digest}`;
  const holderKey = (digest: Digest, repository: string) => `${digest} ${repository}`;

  async function holdersOf(digest: Digest): Promise<readonly string[]> {
    const prefix = holderKey(digest, '');
    return (await holders.list({ prefix, limit: MAX_HOLDERS })).map(key => key.slice(prefix.length));
  }

  return {
    find: (origin, digest) => links.get(keyOf(repositoryKey(origin), digest)),
    async add(origin, digest, link = {}) {
      const repository = repositoryKey(origin);
      const changes = [
        links.putting(keyOf(repository, digest), link),
        holders.putting(holderKey(digest, repository), {}),
      ];
      await remember(records.write(changes));
    },
    holdersOf,
    async *list(repository) {
      const prefix = repository === undefined ? '' : `${repository}@`;
      let after: string | undefined = '';
      while (after !== undefined) {
        const page: Awaited<ReturnType<typeof links.entries>> = await links.entries({ prefix, after, limit: PAGE });
        for (const { key, value } of page) {
          const at = key.indexOf('@');
          const digest = key.slice(at + 1);
          if (isDigest(digest)) yield { repository: key.slice(0, at), digest, link: value };
        }
        after = page.at(-1)?.key;
      }
    },
    async forget(digests) {
      const held = await Promise.all(digests.map(async digest => ({ digest, names: await holdersOf(digest) })));
      const changes = held.flatMap(({ digest, names }) =>
        names.flatMap(name => [links.deleting(keyOf(name, digest)), holders.deleting(holderKey(digest, name))]),
      );
      if (changes.length > 0) await remember(records.write(changes));
    },
  };
}
