// A registry whose missing images are built by recipes: a pull of such a tag waits for its build.
import type { Recipes } from '../../builds/recipes/recipe.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import type { Registry } from '../registry.ts';
import { createRecipeBuilds, type RecipeBuildsDeps, type Wanted } from './recipe-builds.ts';
import type { RecipeImages } from './recipe-images.ts';

/** `targetOf` gives the full name of the repository that images for one of the registry's are pushed to, and found in by the registry. */
export type WithRecipes = (registry: Registry, targetOf: (repository: string) => string) => Registry;

const PUSHED = { isPushed: true } as const;

export function createWithRecipes(
  deps: RecipeBuildsDeps & {
    readonly recipes: Pick<Recipes, 'find'>;
    readonly images: RecipeImages;
    /** Hears why an image that was to be built anew is still the old one. */
    readonly onRenewalFailed: (image: string, error: unknown) => void;
  },
): WithRecipes {
  const { recipes, images, now, onRenewalFailed } = deps;
  const builds = createRecipeBuilds(deps, images);

  /** A tag that somebody pushed by hand is left alone. */
  async function isDue({ image, match: { ttlMs } }: Wanted, digest: Digest): Promise<boolean> {
    if (ttlMs === undefined || builds.hasFailed(image)) return false;
    const plannedAt = await images.findPlanned(image, digest);
    return plannedAt !== undefined && now().getTime() - plannedAt >= ttlMs;
  }

  /** Whether it is built anew, or found to be what it would be; else the old image is better than none. */
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
