// A registry whose missing images are built by recipes: a pull of such a tag waits for its build.
import pLimit from 'p-limit';
import type { Recipes } from '../../builds/recipes/recipe.ts';
import type { ResolveOptions } from '../../cache/read-through/tags.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { pageOfAll } from '../../upstream/registry/tag-list.ts';
import type { CallOptions, TagList, TagPage } from '../../upstream/upstream.ts';
import type { Origin } from '../origin.ts';
import type { Registry } from '../registry.ts';
import { createRecipeBuilds, type RecipeBuildsDeps, type Wanted } from './recipe-builds.ts';
import type { RecipeImages } from './recipe-images.ts';

/** `targetOf` maps a repository of the registry to the full name of the repository that its images are built into. */
export type WithRecipes = (registry: Registry, targetOf: (repository: string) => string) => Registry;

const PUSHED = { isPushed: true } as const;

export function createWithRecipes(
  deps: RecipeBuildsDeps & {
    readonly recipes: Pick<Recipes, 'find'>;
    readonly images: RecipeImages;
    /** Called when an image could not be rebuilt, and the old one is served. */
    readonly onRenewalFailed: (image: string, error: unknown) => void;
  },
): WithRecipes {
  const { recipes, images, now, onRenewalFailed } = deps;
  const builds = createRecipeBuilds(deps, images);

  /** Whether the image is older than its recipe allows. Never true for a tag that was pushed by hand. */
  async function isDue({ image, match: { ttlMs } }: Wanted, digest: Digest): Promise<boolean> {
    if (ttlMs === undefined || builds.hasFailed(image)) return false;
    const plannedAt = await images.findPlanned(image, digest);
    return plannedAt !== undefined && now().getTime() - plannedAt >= ttlMs;
  }

  /** Rebuilds the image if needed. Returns whether that succeeded; if not, the old image is served. */
  async function renew(wanted: Wanted, signal: AbortSignal | undefined): Promise<boolean> {
    try {
      await builds.build(wanted, signal);
      return true;
    } catch (error) {
      signal?.throwIfAborted();
      onRenewalFailed(wanted.image, error);
      return false;
    }
  }

  return (registry, targetOf) => {
    function findWanted(repository: string, tag: string): Wanted | undefined {
      const name = `${registry.name}/${repository}`;
      const match = recipes.find(name, tag);
      return match && { image: `${name}:${tag}`, match, target: { repository: targetOf(repository), tag } };
    }

    return {
      ...registry,
      async resolveTag(repository, tag, options) {
        const wanted = findWanted(repository, tag);
        const resolve = (pushed?: typeof PUSHED) => registry.resolveTag(repository, tag, { ...options, ...pushed });
        if (!wanted) return resolve();
        const digest = await unlessMissing(resolve());
        if (digest === undefined) {
          await builds.build(wanted, options?.signal);
          return resolve(PUSHED);
        }
        const isRenewed = (await isDue(wanted, digest)) && (await renew(wanted, options?.signal));
        return isRenewed ? resolve(PUSHED) : digest;
      },
    };
  };
}

async function unlessMissing(resolved: Promise<Digest>): Promise<Digest | undefined> {
  try {
    return await resolved;
  } catch (error) {
    if (error instanceof RegistryError && error.status === 404) return undefined;
    throw error;
  }
}

// An upstream, each of whose repositories may be complemented by one of ours, with images that recipes built for the upstream's names.
// Tags that others push there are not served as the upstream's.

/** The repository that may have what the upstream lacks. */
export interface Shadow extends Origin {
  /** Whether the digest is what a recipe built for the tag. */
  wasBuilt(tag: string, digest: Digest): Promise<boolean>;
}

/** Concurrent lookups of a shadow's tags. */
const LOOKUPS = 16;

/**
 * A tag is the upstream's if it exists there; where it is missing or the upstream fails, it is the shadow's, if a recipe built it. Digests
 * are looked up in the shadow first, which is local. `findShadow` returns the shadow of an upstream's repository, if it has one.
 */
export function createShadowedRegistry(
  upstream: Registry,
  findShadow: (repository: string) => Shadow | undefined,
): Registry {
  async function either<T>(repository: string, ask: (origin: Origin) => Promise<T>): Promise<T> {
    const own = { registry: upstream, repository };
    const shadow = findShadow(repository);
    return (shadow && (await found(ask(shadow)))) ?? ask(own);
  }

  return {
    name: upstream.name,
    scope: upstream.scope,
    isHosted: upstream.isHosted,
    async resolveTag(repository, tag, options) {
      try {
        return await upstream.resolveTag(repository, tag, options);
      } catch (error) {
        const shadow = findShadow(repository);
        if (!shadow || !(isMissing(error) || isTransient(error))) throw error;
        const digest = await findBuilt(shadow, tag, options);
        if (digest === undefined) throw error;
        return digest;
      }
    },
    getManifest: (repository, digest, options) =>
      either(repository, origin => origin.registry.getManifest(origin.repository, digest, options)),
    readConfig: (repository, descriptor) =>
      either(repository, origin => origin.registry.readConfig(origin.repository, descriptor)),
    headBlob: (repository, digest) => either(repository, origin => origin.registry.headBlob(origin.repository, digest)),
    getBlob: (repository, digest, options) =>
      either(repository, origin => origin.registry.getBlob(origin.repository, digest, options)),
    async listTags(repository, page, options) {
      const shadow = findShadow(repository);
      const built = shadow && (await found(listBuilt(shadow, page, options)));
      if (!built || built.tags.length === 0) return upstream.listTags(repository, page, options);
      const theirs = await found(listWhole(page, each => upstream.listTags(repository, each, options)));
      return theirs ? mergeTags(theirs, built, page) : built;
    },
    async findReferrers(repository, digest, options) {
      const { registry, repository: name } = (await findHolder(digest, findShadow(repository))) ?? {
        registry: upstream,
        repository,
      };
      return registry.findReferrers(name, digest, options);
    },
  };
}

const MAX_PAGES = 100;

/**
 * A page whose continuation is its last tag. An upstream with a continuation token of its own is read to its end, and paged here.
 */
async function listWhole(page: TagPage, list: (page: TagPage) => Promise<TagList>): Promise<TagList> {
  const first = await list(page);
  if (first.next === undefined) return first;
  // Its first page ignored `last`.
  let current = page.last === undefined ? first : await list({});
  const all = [...current.tags];
  for (let pages = 1; current.hasMore; pages++) {
    if (pages === MAX_PAGES) {
      throw new RegistryError('UNKNOWN', `its tags fill more than ${MAX_PAGES} pages`, { status: 502 });
    }
    current = await list(current.next === undefined ? { last: current.tags.at(-1) } : { next: current.next });
    all.push(...current.tags);
  }
  return pageOfAll(all, page);
}

/** The digest of the shadow's tag, if a recipe built it. */
async function findBuilt(shadow: Shadow, tag: string, options?: ResolveOptions): Promise<Digest | undefined> {
  const digest = await found(shadow.registry.resolveTag(shadow.repository, tag, options));
  return digest !== undefined && (await shadow.wasBuilt(tag, digest)) ? digest : undefined;
}

/** A page of the tags that recipes built. While there are more it has at least one, which continues it. */
async function listBuilt(shadow: Shadow, page: TagPage, options?: CallOptions): Promise<TagList> {
  const { tags, hasMore } = await shadow.registry.listTags(shadow.repository, page, options);
  const digests = await pLimit(LOOKUPS).map(tags, tag => findBuilt(shadow, tag, options));
  const built = tags.filter((_, i) => digests[i] !== undefined);
  const last = tags.at(-1);
  if (built.length > 0 || !hasMore || last === undefined) return { tags: built, hasMore };
  return listBuilt(shadow, { ...page, last }, options);
}

/** Referrers are where their subject is. */
async function findHolder(digest: Digest, shadow: Shadow | undefined): Promise<Shadow | undefined> {
  return shadow && (await found(shadow.registry.getManifest(shadow.repository, digest))) ? shadow : undefined;
}

async function found<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof RegistryError && error.status === 404;
}

/** Whether the upstream may recover by itself. */
function isTransient(error: unknown): boolean {
  return error instanceof RegistryError && (error.status === 429 || error.status >= 500);
}

// The repositories of images that recipes built for an upstream's names.

/** `local/builds/registry.example-5000/team/app` for `team/app` of `registry.example:5000`: computed from the name alone. */
export function shadowName(buildsRepository: string, registry: string, repository: string): string {
  // A component holds letters, digits, and single separators between them.
  const component = registry
    .toLowerCase()
    .split(/[^a-z0-9._-]+/)
    .filter(Boolean)
    .join('-');
  return `${buildsRepository}/${component}/${repository}`;
}

// Two lists of tags as one, page by page.

/** Both are the same page, in ASCII order, of their repositories. */
export function mergeTags(a: TagList, b: TagList, { n = Number.POSITIVE_INFINITY }: TagPage): TagList {
  // Where one list has more pages, tags of the other beyond the end of its page must wait for the next page.
  const ends = [a, b].flatMap(({ tags, hasMore }) => (hasMore ? tags.slice(-1) : []));
  const all = [...new Set([...a.tags, ...b.tags])].sort();
  const shown = all.filter(tag => ends.every(end => tag <= end)).slice(0, n);
  return { tags: shown, hasMore: a.hasMore || b.hasMore || shown.length < all.length };
}
