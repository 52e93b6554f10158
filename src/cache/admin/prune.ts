// Pruning: content goes because somebody says so, the longest unused first. What is pinned stays.

import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { createNameTest } from '../../oci/name-pattern.ts';
import type { Evict, Evicted } from '../eviction/evict.ts';
import type { Usage } from '../eviction/usage.ts';
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
  /** Believes the clock, whatever it says. */
  readonly force?: boolean | undefined;
}

interface PruneParts {
  readonly links: CacheLinks;
  readonly usage: Usage;
  readonly evict: Evict;
  readonly deleteBy: () => Date | undefined;
}

/** Throws UNAVAILABLE for a wish by age while the clock is in doubt, unless it is forced. */
export async function* prune(parts: PruneParts, wish: PruneWish): AsyncGenerator<CacheLine> {
  const { usage, evict } = parts;
  const { toBytes, dryRun = false } = wish;
  const usedBefore = findUsedBefore(parts, wish);
  const stays = createStays(parts, wish, usedBefore);
  // An age or a pattern alone is about all of the cache, however large; with a size, both have to let go.
  const goal = toBytes === undefined && usedBefore !== undefined ? { usedBefore } : { toBytes: toBytes ?? -1 };
  let removed: Evicted = { count: 0, bytes: 0 };
  for await (removed of evict({ ...goal, stays, dryRun })) yield { kind: 'progress', done: removed };
  const gone = dryRun ? removed : { count: 0, bytes: 0 };
  const left = { count: usage.count - gone.count, bytes: usage.bytes - gone.bytes };
  yield { kind: 'pruned', dryRun, removed, left };
}

function findUsedBefore({ deleteBy }: PruneParts, { unusedMs, force = false }: PruneWish): number | undefined {
  if (unusedMs === undefined) return undefined;
  const at = force ? new Date() : deleteBy();
  if (at) return at.getTime() - unusedMs;
  const reason = 'the clock has jumped ahead: what was used of late may look unused';
  throw new RegistryError('UNAVAILABLE', `${reason}. The log says by how much; --force prunes all the same`);
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
