// Tags: the digest that each points to, revalidated by HEAD when no longer fresh, and served stale while the upstream is down or
// rate-limits us. Where several processes have the records, the answer to the latest question counts for all of them.
import { z } from 'zod';
import type { Memory } from '../../memory.ts';
import { type Digest, isDigest } from '../../oci/digest.ts';
import { orUndefined, RegistryError } from '../../oci/errors.ts';
import type { Manifest } from '../../oci/manifest.ts';
import { createTagTest } from '../../oci/name-pattern.ts';
import { createCollection } from '../../state/collection.ts';
import type { RecordStore } from '../../state/store.ts';
import type { ManifestOptions } from '../../upstream/upstream.ts';
import { bestEffort } from './cached.ts';
import { repositoryEnd, repositoryKey, repositoryName, type UpstreamRepository } from './links.ts';
import type { Manifests } from './manifests.ts';
import { createNegativeCache } from './negative-cache.ts';
import { createSingleFlight } from './single-flight.ts';

export interface Tags {
  /**
   * The digest that a tag points to. Throws the upstream's error, unless it is a failure and the stored digest is not too old. For an
   * offline upstream, the stored digest is used whatever its age.
   */
  resolve(origin: UpstreamRepository, tag: string, options?: Asking): Promise<Digest>;
}

export interface ResolveOptions extends ManifestOptions {
  /** Whether we have just pushed the tag: a cached digest is outdated then. */
  readonly isPushed?: boolean;
}

type Asking = Pick<ResolveOptions, 'isPushed' | 'accept'>;

/** What a tag is taken to point to, and how that is known. */
interface Resolved {
  readonly digest: Digest;
  readonly lookup: 'revalidated' | 'stale';
}

const tagSchema = z.object({ digest: z.string().refine(isDigest), checkedAt: z.number() });

type StoredTag = z.infer<typeof tagSchema>;

/** How far the clocks of processes that share records may differ. A time beyond that is taken for a mistake. */
const MAX_SKEW_MS = 60_000;

export function createTags({
  records,
  policy,
  now,
  manifests,
  memory,
  onLookup = () => {},
}: {
  readonly records: RecordStore;
  readonly policy: TagPolicy;
  readonly now: () => Date;
  readonly manifests: Manifests;
  readonly memory: Memory;
  /** Called for each tag that is looked up. */
  readonly onLookup?: ((result: Resolved['lookup'] | 'hit' | 'coalesced') => void) | undefined;
}): Tags {
  const tags = createCollection({ store: records, name: 'tag', schema: tagSchema });
  const flight = createSingleFlight<Resolved>();
  const freshnessOf = createFreshness(policy);
  const mayBeStale = createStaleTest(policy);
  const negativeCache = createNegativeCache({ memoryMs: policy.negativeMs ?? 0, now, memory });
  const { areShared } = records.locks;
  const maxSkewMs = areShared ? MAX_SKEW_MS : 0;

  /** `stored` is no longer fresh. */
  async function refresh(
    origin: UpstreamRepository,
    tag: string,
    asking: Asking,
    stored?: StoredTag,
  ): Promise<Resolved> {
    const key = keyOf(origin, tag);
    const checkedAt = now().getTime();
    try {
      const manifest = await negativeCache(questionOf(key, asking), () => ask(origin, tag, asking), asking.isPushed);
      const { digest, mediaType } = manifest;
      // A 404 for one Accept header does not hold for others, so it is not cached for all.
      if (asking.accept?.includes(mediaType)) return { digest, lookup: 'revalidated' };
      return { digest: await keep(origin, tag, { digest, checkedAt }), lookup: 'revalidated' };
    } catch (error) {
      if (stored && ageOf(stored) < policy.staleMaxAgeMs && mayBeStale(error))
        return { digest: stored.digest, lookup: 'stale' };
      throw error;
    }
  }

  /** The digest that counts from now on: another process may have asked later, and been answered before. */
  async function keep(origin: UpstreamRepository, tag: string, asked: StoredTag): Promise<Digest> {
    const key = keyOf(origin, tag);
    const end = repositoryEnd(origin);
    let latest = asked;
    const update = () =>
      tags.update(key, stored => {
        const leadMs = (stored?.checkedAt ?? 0) - asked.checkedAt;
        latest = stored && leadMs > 0 && leadMs < MAX_SKEW_MS ? stored : asked;
        return latest === asked ? { record: asked, ...end } : undefined;
      });
    await bestEffort(areShared ? update() : tags.put(key, asked, end));
    return latest.digest;
  }

  function ageOf({ checkedAt }: StoredTag): number {
    return now().getTime() - checkedAt;
  }

  function isFresh(stored: StoredTag, name: string, tag: string): boolean {
    const ageMs = ageOf(stored);
    return ageMs >= -maxSkewMs && ageMs < freshnessOf(name, tag);
  }

  /** Stores the manifest before the tag points to it: the target of a stale tag must be available. */
  async function ask(origin: UpstreamRepository, tag: string, asking: Asking): Promise<Manifest> {
    const { digest, body } = await origin.upstream.headManifest(origin.repository, tag, asking);
    if (body) return manifests.keep(origin, body);
    // A tag may move meanwhile, and a mirror may have a tag but no longer its manifest.
    const manifest = digest && (await orUndefined(manifests.get(origin, digest, asking)));
    return manifest ?? manifests.fetch(origin, tag, asking);
  }

  return {
    async resolve(origin, tag, asking = {}) {
      const key = keyOf(origin, tag);
      const stored = await tags.find(key);
      const { isOffline } = origin.upstream;
      if (stored && (isOffline || (!asking.isPushed && isFresh(stored, repositoryName(origin), tag)))) {
        onLookup('hit');
        return stored.digest;
      }
      // Requests from before the push do not see it.
      const question = `${questionOf(key, asking)}${asking.isPushed ? ' pushed' : ''}`;
      let isOwn = false;
      const { digest, lookup } = await flight(question, () => {
        isOwn = true;
        return refresh(origin, tag, asking, stored);
      });
      onLookup(isOwn || lookup !== 'revalidated' ? lookup : 'coalesced');
      return digest;
    },
  };
}

/** An upstream may have a manifest only for those who accept its type. */
function questionOf(key: string, { accept = [] }: Asking): string {
  return [key, ...accept].join(' ');
}

function keyOf(origin: UpstreamRepository, tag: string): string {
  return `${repositoryKey(origin)}:${tag}`;
}

/** How long a tag is fresh, and which failures of an upstream allow serving it stale. */
interface TagPolicy {
  readonly tagFreshnessMs: number;
  /** Overrides of tagFreshnessMs, by globs of full names and of tags: the first match wins. */
  readonly freshness?: readonly FreshnessRule[];
  /** How old a tag may be that is served because the upstream fails. */
  readonly staleMaxAgeMs: number;
  /** Default: unavailable. */
  readonly staleOn?: readonly StaleCause[];
  /** How long a 404 is cached; default: not at all. */
  readonly negativeMs?: number;
}

interface FreshnessRule {
  readonly images: readonly string[];
  readonly tags: readonly string[];
  readonly timeMs: number;
}

/** How an upstream can fail to resolve a tag; unavailable: it rate-limits us, is broken, or hangs. */
type StaleCause = 'unavailable' | 'notFound' | 'unauthorized';

/** How long the digest of a tag is fresh, in milliseconds. */
function createFreshness({ tagFreshnessMs, freshness = [] }: TagPolicy): (name: string, tag: string) => number {
  const rules = freshness.map(({ images, tags, timeMs }) => ({
    matches: createTagTest([{ repositories: images, tags }]),
    timeMs,
  }));
  return (name, tag) => rules.find(({ matches }) => matches(name, tag))?.timeMs ?? tagFreshnessMs;
}

/** Whether the error allows serving a stored copy instead. */
function createStaleTest({ staleOn = ['unavailable'] }: TagPolicy): (error: unknown) => boolean {
  return error => {
    const cause = error instanceof RegistryError ? causeOf(error) : undefined;
    return cause !== undefined && staleOn.includes(cause);
  };
}

function causeOf({ status }: RegistryError): StaleCause | undefined {
  if (status === 429 || status >= 500) return 'unavailable';
  if (status === 404) return 'notFound';
  return status === 401 || status === 403 ? 'unauthorized' : undefined;
}
