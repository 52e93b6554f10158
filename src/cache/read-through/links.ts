// Links: which content each repository received. Content is stored once, but served only through a repository that links it, and only
// receiving the bytes creates a link: the whole body, verified, from this upstream for this repository. An upstream's claim to have some
// content proves nothing, since any registry can claim any digest. Content fetched with clients' credentials is linked for their scope
// only, for as long as that lasts; for the cache itself, which serves no client, without a scope.
import { z } from 'zod';
import type { Memory } from '../../memory.ts';
import { type Digest, isDigest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { createCollection } from '../../state/collection.ts';
import { type Change, entriesOf, isTransient, type RecordStore } from '../../state/store.ts';
import type { Upstream } from '../../upstream/upstream.ts';
import { bestEffort } from './cached.ts';

const linkSchema = z.object({
  /** Of a manifest: the Content-Type it was served with. */
  contentType: z.string().optional(),
  /** In bytes. */
  size: z.number().optional(),
  /** Absent in records of earlier releases for content that an upstream only claimed to have: they open nothing. */
  isSent: z.literal(true).optional(),
});

/** Content that a repository received. */
export interface Link {
  readonly contentType?: string | undefined;
  /** In bytes, as counted. */
  readonly size: number;
}

/** A link, as listed for a repository. */
interface NamedLink {
  /** `<upstream>/<repository>` */
  readonly repository: string;
  readonly digest: Digest;
  readonly link: Link;
}

export interface Links {
  find(origin: UpstreamRepository, digest: Digest): Promise<Link | undefined>;
  /**
   * Content that the same clients received in the same repository under an expired scope: they have it, but only the upstream knows whether
   * they still may. Undefined where there are no scopes. Not stored on disk: after a restart it is refetched.
   */
  findEarlier(origin: UpstreamRepository, digest: Digest): Link | undefined;
  /** To be called when the whole body was received and verified. On a full disk nothing is added, and the upstream sends it again. */
  add(origin: UpstreamRepository, digest: Digest, link: Link): Promise<void>;
  /** The full names of the repositories that hold some content. */
  holdersOf(digest: Digest): Promise<readonly string[]>;
  /** All links, or those of one repository, in the order of their full names. */
  list(repository?: string): AsyncGenerator<NamedLink>;
  /** Removes all links to content being removed. On a full disk they stay, and lead to a refetch. */
  forget(digests: readonly Digest[]): Promise<void>;
}

const MAX_HOLDERS = 10_000;

export function createLinks(records: RecordStore, memory: Memory): Links {
  const links = createCollection({ store: records, name: 'link', schema: linkSchema });
  // The same, indexed by digest.
  const holders = createCollection({ store: records, name: 'linked', schema: z.object({}) });
  const earlier = memory.openCache<Link>();
  const keyOf = (key: string, digest: Digest) => `${key}@${digest}`;
  const holderKey = (digest: Digest, repository: string) => `${digest} ${repository}`;

  async function holderKeysOf(digest: Digest): Promise<readonly string[]> {
    const prefix = holderKey(digest, '');
    return (await holders.list({ prefix, limit: MAX_HOLDERS })).map(key => key.slice(prefix.length));
  }

  function earlierKey(origin: UpstreamRepository, digest: Digest): string | undefined {
    const { scope } = origin.upstream;
    return scope && keyOf(`${repositoryName(origin)}${SCOPE_MARK}${scope.client}`, digest);
  }

  function adding(origin: UpstreamRepository, digest: Digest, link: Link): readonly Change[] {
    const key = repositoryKey(origin);
    const lasting = origin.upstream.scope ? `${repositoryName(origin)}${SCOPE_MARK}` : key;
    const record = { ...link, isSent: true } as const;
    return [
      ...(lasting === key ? [] : [links.putting(keyOf(key, digest), record, repositoryEnd(origin))]),
      links.putting(keyOf(lasting, digest), record),
      holders.putting(holderKey(digest, lasting), {}),
    ];
  }

  return {
    find: async (origin, digest) => sentLink(await links.find(keyOf(repositoryKey(origin), digest))),
    findEarlier(origin, digest) {
      const key = earlierKey(origin, digest);
      return key === undefined ? undefined : earlier.get(key);
    },
    async add(origin, digest, link) {
      const key = earlierKey(origin, digest);
      if (key !== undefined) earlier.set(key, link);
      await bestEffort(records.write(adding(origin, digest, link)));
    },
    async holdersOf(digest) {
      return [...new Set((await holderKeysOf(digest)).map(nameOf))];
    },
    async *list(repository) {
      const prefix = repository === undefined ? '' : `${repository}@`;
      for await (const { key, value } of entriesOf(links, prefix)) {
        const at = key.lastIndexOf('@');
        const digest = key.slice(at + 1);
        const name = nameOf(key.slice(0, at));
        const link = sentLink(value);
        if (link && !name.includes(SCOPE_MARK) && isDigest(digest)) yield { repository: name, digest, link };
      }
    },
    async forget(digests) {
      // Links of scopes expire on their own.
      const found = await Promise.all(digests.map(async digest => ({ digest, keys: await holderKeysOf(digest) })));
      const changes = found.flatMap(({ digest, keys }) =>
        keys.flatMap(key => [links.deleting(keyOf(key, digest)), holders.deleting(holderKey(digest, key))]),
      );
      if (changes.length > 0) await bestEffort(records.write(changes, { makesRoom: true }));
    },
  };
}

/**
 * Links of one cache, and beside them those that all caches have earned that share their content: what one of them received for a repository and a
 * scope, any of them may serve there. Shared links last as long as `SHARED_MS`, or their scope.
 */
export function createSharedLinks(local: Links, records: RecordStore, now: () => Date): Links {
  const shared = createCollection({ store: records, name: 'shared-link', schema: linkSchema });
  const keyOf = (origin: UpstreamRepository, digest: Digest) => `${repositoryKey(origin)}@${digest}`;

  async function findShared(origin: UpstreamRepository, digest: Digest): Promise<Link | undefined> {
    if (isAway(records)) return undefined;
    try {
      return sentLink(await shared.find(keyOf(origin, digest)));
    } catch (error) {
      if (isTransient(error)) return undefined;
      throw error;
    }
  }

  return {
    ...local,
    async find(origin, digest) {
      const own = await local.find(origin, digest);
      const link = own ?? (await findShared(origin, digest));
      // What is cached is served also while the shared records are away.
      if (link && !own) await local.add(origin, digest, link);
      return link;
    },
    async add(origin, digest, link) {
      const expiry = { expiresAt: new Date(now().getTime() + SHARED_MS), ...repositoryEnd(origin) };
      if (!isAway(records)) await bestEffort(shared.put(keyOf(origin, digest), { ...link, isSent: true }, expiry));
      await local.add(origin, digest, link);
    },
  };
}

/** Whether nothing is heard of records: what can be done without them does not wait until a request has failed. */
export function isAway(records: Pick<RecordStore, 'version'>): boolean {
  return records.version() === undefined;
}

/** After that the content is fetched once more: what is in a bucket for longer may be deleted there. */
const SHARED_MS = 30 * 24 * 3_600_000;

/** Whether a HEAD shows that it is still accessible. A refused HEAD says nothing about a GET, whose error then explains it. */
export async function isStillAccessible(head: () => Promise<unknown>): Promise<boolean> {
  try {
    await head();
    return true;
  } catch (error) {
    if (error instanceof RegistryError && error.status < 500 && error.status !== 429) return false;
    throw error;
  }
}

function sentLink(record: z.infer<typeof linkSchema> | undefined): Link | undefined {
  const { contentType, size, isSent } = record ?? {};
  return isSent && size !== undefined ? { size, ...(contentType !== undefined && { contentType }) } : undefined;
}

/** For a key without a scope: content that was received under some scope. */
function nameOf(key: string): string {
  return key.endsWith(SCOPE_MARK) ? key.slice(0, -SCOPE_MARK.length) : key;
}

// The key of an upstream repository under which its content is linked: one repository or scope never sees another's.

export interface UpstreamRepository {
  readonly upstream: Upstream;
  readonly repository: string;
}

/** The full name. */
export function repositoryName({ upstream, repository }: UpstreamRepository): string {
  return `${upstream.name}/${repository}`;
}

/** Separates a name from the id of a scope. No name contains it. */
const SCOPE_MARK = '@#';

/** The key of everything in this repository, for one scope where the upstream uses them. */
export function repositoryKey(origin: UpstreamRepository): string {
  const { scope } = origin.upstream;
  return scope ? `${repositoryName(origin)}${SCOPE_MARK}${scope.id}` : repositoryName(origin);
}

/** When the links under the key expire. */
export function repositoryEnd({ upstream }: UpstreamRepository): { readonly expiresAt?: Date } {
  return upstream.scope ? { expiresAt: upstream.scope.endsAt } : {};
}
