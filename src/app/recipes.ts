// Recipes at work: how a pull's match becomes a build, and which registries have their missing images built.
import { readFile } from 'node:fs/promises';
import { relative } from 'node:path';
import type { Plan } from '../builds/plan.ts';
import type { RecipeMatch, Recipes } from '../builds/recipes/recipe.ts';
import { InvalidBuild } from '../builds/request.ts';
import type { Spec } from '../builds/spec.ts';
import { parsePlatform } from '../oci/platform.ts';
import type { Origins } from '../pull/origin.ts';
import type { RecipeTarget, StartRecipe } from '../pull/recipes/recipe-builds.ts';
import type { RecipeImages } from '../pull/recipes/recipe-images.ts';
import type { WithRecipes } from '../pull/recipes/recipe-registry.ts';
import { createShadowedRegistry, type Shadow, shadowName } from '../pull/recipes/shadowed-registry.ts';
import type { Registry } from '../pull/registry.ts';
import type { StartBuildForPull } from '../submit/rate-limited-builds.ts';

interface StartRecipeDeps {
  readonly plan: Plan;
  readonly startBuildForPull: StartBuildForPull;
  /** How many platforms a build has that names none. */
  readonly defaultPlatforms: number;
  readonly cacheRepository: string | undefined;
}

export function createStartRecipe(deps: StartRecipeDeps): StartRecipe {
  const { plan, startBuildForPull, defaultPlatforms, cacheRepository } = deps;

  async function planRecipe(match: RecipeMatch, target: RecipeTarget): Promise<Spec> {
    const {
      containerFile,
      context,
      platforms,
      attestations: { sbom = false, provenance = 'none' } = {},
      ttlMs: _,
      ...options
    } = match;
    return plan({
      ...options,
      containerFile: await readContainerFile(containerFile),
      ...(context !== undefined && {
        context: { kind: 'directory', path: context, containerFile: relative(context, containerFile) },
      }),
      platforms: platforms?.map(parsePlatform),
      attestations: { sbom, provenance },
      cacheRepository,
      target,
    });
  }

  return async (match, target) => {
    const platforms = match.platforms?.length ?? defaultPlatforms;
    return (await startBuildForPull(() => planRecipe(match, target), platforms)).build;
  };
}

async function readContainerFile(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unreadable';
    throw new InvalidBuild(`the Containerfile of the recipe cannot be read (${code})`, { cause });
  }
}

interface RecipeServingDeps {
  readonly origins: Origins;
  readonly recipes: Recipes;
  readonly images: Pick<RecipeImages, 'wasBuilt'>;
  readonly withRecipes: WithRecipes;
  /** The full name of the repository below which images for upstreams' names are. */
  readonly repository: string;
}

/** What is built for a hosted name is pushed there; what an upstream lacks is behind it, in a repository of ours. */
export function createRecipeServing({
  origins,
  recipes,
  images,
  withRecipes,
  repository,
}: RecipeServingDeps): (registry: Registry) => Registry {
  return registry => {
    const { name, isHosted } = registry;
    if (isHosted) return withRecipes(registry, own => `${name}/${own}`);
    const shadowOf = (own: string) => shadowName(repository, name, own);
    const findShadow = (own: string): Shadow | undefined => {
      const fullName = `${name}/${own}`;
      if (!recipes.covers(fullName)) return undefined;
      const wasBuilt: Shadow['wasBuilt'] = (tag, digest) => images.wasBuilt(`${fullName}:${tag}`, digest);
      return { ...origins.locateName(shadowOf(own)), wasBuilt };
    };
    return withRecipes(createShadowedRegistry(registry, findShadow), shadowOf);
  };
}
