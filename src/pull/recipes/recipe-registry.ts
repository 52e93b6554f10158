// A registry whose missing images are built by recipes: a pull of such a tag waits for its build.
import type { Recipes } from '../../builds/recipes/recipe.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
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
