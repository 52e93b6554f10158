// The desk of the cache: what its operator asks of it. Each answer comes as lines; whoever leaves before the last stops what runs.

import type { KeptContent } from '../../content/inventory.ts';
import type { Budget, Evict } from '../eviction/evict.ts';
import type { Usage } from '../eviction/usage.ts';
import type { CacheLine, StatLine } from './lines.ts';
import type { CacheLinks } from './links.ts';
import { listContents, listRepositories } from './listing.ts';
import { type PruneWish, prune } from './prune.ts';
import { type VerifyOptions, verify } from './verify.ts';

interface CacheParts {
  readonly usage: Usage;
  /** Everything that can be verified, of the cache and of all others. */
  readonly kept: readonly KeptContent[];
  readonly links: CacheLinks;
  readonly evict: Evict;
  readonly budget: Budget;
  readonly pin: readonly string[];
  /** The clock's: undefined where nothing may go by its age now. */
  readonly deleteBy: () => Date | undefined;
  /** Resolves when all that lies on the disk has been counted. */
  readonly counted: Promise<void>;
  /** Absent where nothing is served. */
  readonly service?: CacheService | undefined;
}

interface CacheService {
  readonly isCounted: () => boolean;
  /** Since the start. */
  readonly counts: Pick<StatLine, 'hits' | 'misses'>;
}

export interface CacheDesk {
  stat(): AsyncGenerator<CacheLine>;
  /** All repositories, or what one of them links of what is kept. */
  list(repository?: string): AsyncGenerator<CacheLine>;
  prune(wish: PruneWish): AsyncGenerator<CacheLine>;
  /** Hashes all that is kept, of upstreams and all else, and sets aside what is damaged. */
  verify(options?: VerifyOptions): AsyncGenerator<CacheLine>;
}

export function createCacheDesk(parts: CacheParts): CacheDesk {
  const { usage, budget, pin, service, counted, kept } = parts;
  return {
    async *stat() {
      if (!service) await counted;
      const { highBytes, lowBytes, maxAgeMs } = budget;
      yield {
        ...{ kind: 'stat', bytes: usage.bytes, count: usage.count, isCounted: service?.isCounted() ?? true },
        ...{ highBytes, lowBytes: highBytes === undefined ? undefined : lowBytes, maxAgeMs, pin: [...pin] },
        ...service?.counts,
      };
    },
    async *list(repository) {
      await counted;
      yield* repository === undefined ? listRepositories(parts) : listContents(parts, repository);
    },
    async *prune(wish) {
      await counted;
      yield* prune(parts, wish);
    },
    verify: (options = {}) => verify(kept, options),
  };
}
