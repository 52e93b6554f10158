// Pruning: content goes because somebody says so, the longest unused first. What is pinned stays.
import type { Evict, Evicted } from '../content/eviction.ts';
import type { Usage } from '../content/usage.ts';
import type { Digest } from '../oci/digest.ts';
import { createNameTest } from '../oci/name-pattern.ts';
import type { CacheLine } from './lines.ts';
import type { CacheLinks } from './links.ts';

export interface PruneWish {
  /** What was not used for so long; absent: of any age. */
  readonly unusedMs?: number | undefined;
  /** Only until so much is left of the whole cache; absent: all that the rest of the wish names. */
  readonly toBytes?: number | undefined;
  /** Only what no other repositories link; absent: of any repository, and of none. */
  readonly repositories?: readonly string[] | undefined;
  readonly dryRun?: boolean | undefined;
}

export interface PruneParts {
  readonly links: CacheLinks;
  readonly usage: Usage;
  readonly evict: Evict;
  readonly now: () => Date;
}

export async function* prune(parts: PruneParts, wish: PruneWish): AsyncGenerator<CacheLine> {
  const { usage, evict, now } = parts;
  const { unusedMs, toBytes, dryRun = false } = wish;
  const usedBefore = unusedMs === undefined ? undefined : now().getTime() - unusedMs;
  const stays = createStays(parts, wish, usedBefore);
  // An age or a pattern alone is about all of the cache, however large; with a size, both have to let go.
  const goal = toBytes === undefined && usedBefore !== undefined ? { usedBefore } : { toBytes: toBytes ?? -1 };
  let removed: Evicted = { count: 0, bytes: 0 };
  for await (removed of evict({ ...goal, stays, dryRun })) yield { kind: 'progress', done: removed };
  const gone = dryRun ? removed : { count: 0, bytes: 0 };
  const left = { count: usage.count - gone.count, bytes: usage.bytes - gone.bytes };
  yield { kind: 'pruned', dryRun, removed, left };
}

function createStays({ links, usage }: PruneParts, { repositories }: PruneWish, usedBefore: number | undefined) {
  const isNamed = repositories && createNameTest(repositories);
  return async (digest: Digest): Promise<boolean> => {
    if (usedBefore !== undefined && (usage.find(digest)?.usedAt ?? usedBefore) >= usedBefore) return true;
    if (!isNamed) return false;
    const holders = await links.holdersOf(digest);
    return holders.length === 0 || !holders.every(isNamed);
  };
}
