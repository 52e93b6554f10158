// What is in the cache, by the repositories that link it.
import { setImmediate } from 'node:timers/promises';
import type { Usage } from '../eviction/usage.ts';
import type { CacheLine, RepositoryLine } from './lines.ts';
import type { CacheLink, CacheLinks } from './links.ts';

interface ListingParts {
  readonly links: CacheLinks;
  readonly usage: Usage;
}

/** Record stores may answer without leaving the event loop's turn. */
const LINKS_PER_TURN = 200;

/** In the order of their names. One that has nothing left is not among them. */
export async function* listRepositories({ links, usage }: ListingParts): AsyncGenerator<CacheLine> {
  let current: RepositoryLine | undefined;
  let seen = 0;
  for await (const link of links.list()) {
    if (++seen % LINKS_PER_TURN === 0) await setImmediate();
    if (current && current.repository !== link.repository) {
      yield current;
      current = undefined;
    }
    current = addLink(current, link, usage);
  }
  if (current) yield current;
}

function addLink(line: RepositoryLine | undefined, { repository, digest, link }: CacheLink, usage: Usage) {
  const used = usage.find(digest);
  if (!used) return line;
  const { manifests, blobs, bytes, usedAt } = line ?? { manifests: 0, blobs: 0, bytes: 0, usedAt: undefined };
  const isManifest = link.contentType !== undefined;
  const time = new Date(used.usedAt).toISOString();
  return {
    kind: 'repository' as const,
    repository,
    manifests: manifests + (isManifest ? 1 : 0),
    blobs: blobs + (isManifest ? 0 : 1),
    bytes: bytes + used.size,
    usedAt: usedAt !== undefined && usedAt > time ? usedAt : time,
  };
}

/** In the order of their digests. */
export async function* listContents({ links, usage }: ListingParts, repository: string): AsyncGenerator<CacheLine> {
  let seen = 0;
  for await (const { digest, link } of links.list(repository)) {
    if (++seen % LINKS_PER_TURN === 0) await setImmediate();
    const used = usage.find(digest);
    if (!used) continue;
    const { size, usedAt } = used;
    const { contentType } = link;
    yield {
      ...{ kind: 'content', digest, size, usedAt: new Date(usedAt).toISOString() },
      ...(contentType !== undefined && { contentType }),
    };
  }
}
