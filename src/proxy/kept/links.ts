// Links: which content a repository holds. Content is kept once for all, but read only through a repository that links it. What credentials of
// clients opened is linked for their scope alone and as long as that lasts; for the cache, which serves nobody, under no scope.
import { z } from 'zod';
import { type Digest, isDigest } from '../../oci/digest.ts';
import { createCollection } from '../../state/collection.ts';
import type { Change, RecordStore } from '../../state/store.ts';
import { remember } from '../remember.ts';
import {
  repositoryEnd,
  repositoryKey,
  repositoryName,
  SCOPE_MARK,
  type UpstreamRepository,
} from './upstream-repository.ts';

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
  /** Whether a repository of the upstream has brought some content, for whomever. */
  isFrom(upstream: string, digest: Digest): Promise<boolean>;
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
  const keyOf = (key: string, digest: Digest) => `${key}@${digest}`;
  const holderKey = (digest: Digest, repository: string) => `${digest} ${repository}`;

  async function holderKeysOf(digest: Digest): Promise<readonly string[]> {
    const prefix = holderKey(digest, '');
    return (await holders.list({ prefix, limit: MAX_HOLDERS })).map(key => key.slice(prefix.length));
  }

  function adding(origin: UpstreamRepository, digest: Digest, link: Link): readonly Change[] {
    const key = repositoryKey(origin);
    const lasting = origin.upstream.scope ? `${repositoryName(origin)}${SCOPE_MARK}` : key;
    return [
      ...(lasting === key ? [] : [links.putting(keyOf(key, digest), link, repositoryEnd(origin))]),
      links.putting(keyOf(lasting, digest), link),
      holders.putting(holderKey(digest, lasting), {}),
    ];
  }

  return {
    find: (origin, digest) => links.get(keyOf(repositoryKey(origin), digest)),
    async add(origin, digest, link = {}) {
      await remember(records.write(adding(origin, digest, link)));
    },
    async isFrom(upstream, digest) {
      return (await holders.list({ prefix: holderKey(digest, `${upstream}/`), limit: 1 })).length > 0;
    },
    async holdersOf(digest) {
      return [...new Set((await holderKeysOf(digest)).map(nameOf))];
    },
    async *list(repository) {
      const prefix = repository === undefined ? '' : `${repository}@`;
      let after: string | undefined = '';
      while (after !== undefined) {
        const page: Awaited<ReturnType<typeof links.entries>> = await links.entries({ prefix, after, limit: PAGE });
        for (const { key, value } of page) {
          const at = key.lastIndexOf('@');
          const digest = key.slice(at + 1);
          const name = nameOf(key.slice(0, at));
          if (!name.includes(SCOPE_MARK) && isDigest(digest)) yield { repository: name, digest, link: value };
        }
        after = page.at(-1)?.key;
      }
    },
    async forget(digests) {
      // Those of scopes end by themselves.
      const held = await Promise.all(digests.map(async digest => ({ digest, keys: await holderKeysOf(digest) })));
      const changes = held.flatMap(({ digest, keys }) =>
        keys.flatMap(key => [links.deleting(keyOf(key, digest)), holders.deleting(holderKey(digest, key))]),
      );
      if (changes.length > 0) await remember(records.write(changes));
    },
  };
}

/** Of a key without a scope, or of no scope: what some scope has brought. */
function nameOf(key: string): string {
  return key.endsWith(SCOPE_MARK) ? key.slice(0, -SCOPE_MARK.length) : key;
}
