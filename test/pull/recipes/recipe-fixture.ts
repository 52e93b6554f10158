// Registries with recipes over hosted repositories, and builds whose end the test decides.
import type { Builds } from '../../../src/builds/builds.ts';
import { createRecipes, type RecipeMatch, type RecipeOptions } from '../../../src/builds/recipes/recipe.ts';
import type { BuildRecord, Failure } from '../../../src/builds/record.ts';
import type { HostedRepositories } from '../../../src/hosted/repositories.ts';
import { createMemory } from '../../../src/memory.ts';
import type { Digest } from '../../../src/oci/digest.ts';
import type { RecipeTarget } from '../../../src/pull/recipes/recipe-builds.ts';
import { createRecipeImages, type RecipeImages } from '../../../src/pull/recipes/recipe-images.ts';
import { createWithRecipes, type WithRecipes } from '../../../src/pull/recipes/recipe-registry.ts';
import { createHostedRegistry } from '../../../src/pull/registries.ts';
import type { Registry } from '../../../src/pull/registry.ts';
import { createPlace, type Place, pushSmall } from '../../hosted/fixture.ts';
import { parseSpec } from '../../support/build-backends.ts';

const memory = createMemory();

interface Begun {
  readonly id: string;
  readonly match: RecipeMatch;
  readonly target: RecipeTarget;
}

export interface RecipeFixture {
  readonly hosted: HostedRepositories;
  /** The hosted repositories under `local/`, without recipes. */
  readonly local: Registry;
  /** The builds that were begun, in their order. */
  readonly begun: readonly Begun[];
  readonly images: RecipeImages;
  /** The errors of images that could not be rebuilt. */
  readonly stale: readonly string[];
  /** Called when a build is begun, before it is: what it throws is thrown there. */
  onStart: (begun: Begun) => Promise<void> | void;
  withRecipes(recipes: readonly RecipeOptions[]): WithRecipes;
  /** Pushes what the build made, and ends it. */
  succeed(at: number, seed: string): Promise<Digest>;
  fail(at: number, failure?: Partial<Failure>): void;
  /** The build finds that all is as it was: it ends with what is there. */
  findSame(at: number): Promise<void>;
  /** What a restart finds: builds that are not known any more but by their records. */
  readonly builds: Pick<Builds, 'wait' | 'find'>;
  now(): Date;
  advance(ms: number): void;
  readonly place: Place;
  remove(): Promise<void>;
}

export const POLICY = { holdMs: 10_000, failureMemoryMs: 60_000 };

export async function createRecipeFixture(policy = POLICY): Promise<RecipeFixture> {
  const place = await createPlace();
  const hosted = await place.open({ sparse: 'allow' });
  const local = createHostedRegistry(hosted, 'local');
  const begun: Begun[] = [];
  const stale: string[] = [];
  const running = new Map<string, PromiseWithResolvers<BuildRecord>>();
  const records = new Map<string, BuildRecord>();
  let time = 0;

  const builds: RecipeFixture['builds'] = {
    find: async id => records.get(id),
    wait: (id, signal) =>
      new Promise((resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason));
        if (!running.has(id)) resolve(records.get(id));
        running.get(id)?.promise.then(resolve);
      }),
  };

  const images = createRecipeImages(place.records, builds);

  function end(at: number, fields: Partial<BuildRecord>): void {
    const id = begun[at]?.id ?? '';
    const record = { ...recordOf(id), ...fields };
    records.set(id, record);
    running.get(id)?.resolve(record);
    running.delete(id);
  }

  async function start(match: RecipeMatch, target: RecipeTarget): Promise<BuildRecord> {
    const build = { id: `bd-0123456789abcdef_${begun.length + 1}`, match, target };
    begun.push(build);
    await fixture.onStart(build);
    running.set(build.id, Promise.withResolvers());
    records.set(build.id, recordOf(build.id));
    return recordOf(build.id);
  }

  const fixture: RecipeFixture = {
    ...{ hosted, local, begun, images, stale, builds, place },
    onStart: () => {},
    withRecipes: recipes =>
      createWithRecipes({
        memory,
        recipes: createRecipes(recipes, '/'),
        ...{ builds, images },
        startRecipe: start,
        policy,
        logAddress: id => `/v1alpha1/builds/${id}/logs`,
        now: fixture.now,
        onRenewalFailed: (image, error) => stale.push(`${image}: ${error instanceof Error ? error.message : error}`),
      }),
    async succeed(at, seed) {
      const { repository = '', tag = '' } = begun[at]?.target ?? {};
      const { digest } = await pushSmall(hosted, repository, seed, { tags: [tag] });
      end(at, { status: 'succeeded', digest });
      return digest;
    },
    fail: (at, failure) => end(at, { status: 'failed', failure: { kind: 'build', reason: 'exit code 1', ...failure } }),
    async findSame(at) {
      const { repository = '', tag = '' } = begun[at]?.target ?? {};
      end(at, { status: 'succeeded', digest: await hosted.tags.resolve(repository, tag) });
    },
    now: () => new Date(time),
    advance(ms) {
      time += ms;
    },
    remove: () => place.remove(),
  };
  return fixture;
}

export function recordOf(id: string): BuildRecord {
  return {
    ...{ id, spec: parseSpec(), status: 'running', image: 'local/builds:app', caller: '', priority: 0 },
    ...{ createdAt: new Date(0).toISOString(), starts: 1, backends: [] },
  };
}

/** Lets all go on that waits for nothing but its turn. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await new Promise(resolve => setImmediate(resolve));
}
