// Administration of the cache: statistics, lists, pruning and verification. Each result is a stream of lines; a reader that leaves early
// stops the operation.
import { setImmediate } from 'node:timers/promises';
import type { ContentKind, StoredContent } from '../../content/inventory.ts';
import { createRateLimiter } from '../../content/verification.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { createNameTest } from '../../oci/name-pattern.ts';
import type { Budget, Evict, Evicted } from '../eviction/evict.ts';
import type { Usage } from '../eviction/usage.ts';
import type { CacheLine, RepositoryLine, StatLine, Tally } from './lines.ts';

interface CacheParts {
  readonly usage: Usage;
  /** Everything that can be verified, in the cache and elsewhere. */
  readonly stores: readonly StoredContent[];
  readonly links: CacheLinks;
  readonly evict: Evict;
  readonly budget: Budget;
  readonly pin: readonly string[];
  /** By the clock: undefined while nothing may be removed by age. */
  readonly deleteBy: () => Date | undefined;
  /** Resolves when everything on the disk has been counted. */
  readonly counted: Promise<void>;
  /** Absent where nothing is being served. */
  readonly service?: CacheService | undefined;
}

interface CacheService {
  readonly isCounted: () => boolean;
  /** Since the start. */
  readonly counts: Pick<StatLine, 'hits' | 'misses'>;
}

export interface CacheAdmin {
  stat(): AsyncGenerator<CacheLine>;
  /** All repositories, or the cached content that one of them links. */
  list(repository?: string): AsyncGenerator<CacheLine>;
  prune(options: PruneOptions): AsyncGenerator<CacheLine>;
  /** Hashes all stored content, cached or not, and sets aside what is damaged. */
  verify(options?: {
    /** The maximum read rate; absent: unlimited. */
    readonly bytesPerSecond?: number | undefined;
  }): AsyncGenerator<CacheLine>;
}

export function createCacheAdmin(parts: CacheParts): CacheAdmin {
  const { usage, budget, pin, service, counted, stores } = parts;
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
    async *prune(options) {
      await counted;
      yield* prune(parts, options);
    },
    verify: (options = {}) => verify(stores, options),
  };
}

interface ListingParts {
  readonly links: CacheLinks;
  readonly usage: Usage;
}

/** Record stores may answer without yielding to the event loop. */
const LINKS_PER_TURN = 200;

/** In the order of their names, without repositories that have nothing left. */
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

interface PruneOptions {
  /** Prunes content unused for this long; absent: of any age. */
  readonly unusedMs?: number | undefined;
  /** Prunes only until the whole cache is this small; absent: everything else that the options select. */
  readonly toBytes?: number | undefined;
  /** Prunes only content that no other repositories link; absent: of any repository, and of none. */
  readonly repositories?: readonly string[] | undefined;
  readonly dryRun?: boolean | undefined;
  /** Trusts the clock in any case. */
  readonly force?: boolean | undefined;
}

interface PruneParts {
  readonly links: CacheLinks;
  readonly usage: Usage;
  readonly evict: Evict;
  readonly deleteBy: () => Date | undefined;
}

/** Throws UNAVAILABLE for pruning by age while the clock is not trusted, unless forced. */
async function* prune(parts: PruneParts, options: PruneOptions): AsyncGenerator<CacheLine> {
  const { usage, evict } = parts;
  const { toBytes, dryRun = false } = options;
  const usedBefore = findUsedBefore(parts, options);
  const isRetained = createRetentionTest(parts, options, usedBefore);
  // An age or a pattern alone selects from the whole cache, however large; together with a size, both limits apply.
  const goal = toBytes === undefined && usedBefore !== undefined ? { usedBefore } : { toBytes: toBytes ?? -1 };
  let removed: Evicted = { count: 0, bytes: 0 };
  for await (removed of evict({ ...goal, isRetained, dryRun })) yield { kind: 'progress', done: removed };
  const gone = dryRun ? removed : { count: 0, bytes: 0 };
  const left = { count: usage.count - gone.count, bytes: usage.bytes - gone.bytes };
  yield { kind: 'pruned', dryRun, removed, left };
}

function findUsedBefore({ deleteBy }: PruneParts, { unusedMs, force = false }: PruneOptions): number | undefined {
  if (unusedMs === undefined) return undefined;
  const at = force ? new Date() : deleteBy();
  if (at) return at.getTime() - unusedMs;
  const reason = 'the clock has jumped ahead: recently used content may look unused';
  throw new RegistryError('UNAVAILABLE', `${reason}. The log says by how much; use --force to prune anyway`);
}

function createRetentionTest(
  { links, usage }: PruneParts,
  { repositories }: PruneOptions,
  usedBefore: number | undefined,
) {
  const isNamed = repositories && createNameTest(repositories);
  return async (digest: Digest): Promise<boolean> => {
    if (usedBefore !== undefined && (usage.find(digest)?.usedAt ?? usedBefore) >= usedBefore) return true;
    if (!isNamed) return false;
    const holders = await links.holdersOf(digest);
    return holders.length === 0 || !holders.every(isNamed);
  };
}

// Verification: hashes all stored content, cached or not, and sets aside what does not match its digest.

/** How each kind of damaged content is repaired. */
export const REMEDIES: Record<ContentKind, string> = {
  hosted: 'it is missing (404) until it is pushed again',
  cache: 'the next pull fetches it again',
  rules: 'the rule reads its layer again shortly',
  tokens: 'submit the same request again: its tokens then serve it',
  contexts: 'submit builds that need it again',
};

async function* verify(
  stores: readonly StoredContent[],
  {
    bytesPerSecond,
  }: {
    /** How fast the disk is read; absent: as fast as it can be. */
    readonly bytesPerSecond?: number | undefined;
  },
): AsyncGenerator<CacheLine> {
  const limitRate = bytesPerSecond === undefined ? undefined : createRateLimiter(bytesPerSecond);
  let seen: Tally = { count: 0, bytes: 0 };
  let damaged: Tally = { count: 0, bytes: 0 };
  for (const { of, list, verify: verifyOne } of stores) {
    for await (const digest of list()) {
      const verified = await verifyOne(digest, { limitRate });
      // Removed meanwhile.
      if (!verified) continue;
      const { size, isIntact } = verified;
      seen = add(seen, size);
      if (!isIntact) {
        damaged = add(damaged, size);
        yield { kind: 'damaged', of, digest, size, remedy: REMEDIES[of] };
      }
      yield { kind: 'progress', done: seen };
    }
  }
  yield { kind: 'verified', seen, damaged };
}

function add({ count, bytes }: Tally, size: number): Tally {
  return { count: count + 1, bytes: bytes + size };
}

interface CacheLinks {
  /** All links, or those of one repository, in the order of their full names. */
  list(repository?: string): AsyncIterable<CacheLink>;
  /** The full names of the repositories that hold some content. */
  holdersOf(digest: Digest): Promise<readonly string[]>;
}

export interface CacheLink {
  /** `<upstream>/<repository>` */
  readonly repository: string;
  readonly digest: Digest;
  /** `contentType` is present for a manifest only. */
  readonly link: { readonly contentType?: string | undefined };
}

/** Whether any of the repositories that hold some content matches. */
export function createHolderTest(
  links: Pick<CacheLinks, 'holdersOf'>,
  isWanted: (repository: string) => boolean,
): (digest: Digest) => Promise<boolean> {
  return async digest => (await links.holdersOf(digest)).some(isWanted);
}
