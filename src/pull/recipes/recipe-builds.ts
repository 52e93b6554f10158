// Builds started by pulls: one for all concurrent pulls of an image, and none for a while after a failure.
import { AsyncLocalStorage } from 'node:async_hooks';
import { type Builds, QueueFull } from '../../builds/builds.ts';
import { UnsupportedPlatform } from '../../builds/executor/platforms.ts';
import type { RecipeMatch } from '../../builds/recipes/recipe.ts';
import type { BuildRecord } from '../../builds/record.ts';
import { InvalidBuild } from '../../builds/request.ts';
import { createSingleFlight } from '../../cache/read-through/single-flight.ts';
import type { Memory } from '../../memory.ts';
import { RegistryError } from '../../oci/errors.ts';
import { untilAborted } from '../../upstream/waiting.ts';
import type { RecipeImages } from './recipe-images.ts';
import { awaitBuild, failedBuild, type LogAddress, notYet, waitUntil } from './wait-for-build.ts';

export interface RecipeBuildsDeps {
  readonly builds: Pick<Builds, 'wait'>;
  /** Plans a build and submits it. Throws InvalidBuild, UnsupportedPlatform, QueueFull or RegistryError. */
  readonly startRecipe: StartRecipe;
  readonly policy: RecipePolicy;
  readonly logAddress: LogAddress;
  readonly memory: Memory;
  readonly now: () => Date;
  /** Measures how long a pull waits. */
  readonly timeWait?: (<T>(waiting: Promise<T>) => Promise<T>) | undefined;
}

export type StartRecipe = (match: RecipeMatch, target: RecipeTarget) => Promise<BuildRecord>;

/** The destination of the image: the full name of a repository, and the tag. */
export interface RecipeTarget {
  readonly repository: string;
  readonly tag: string;
}

interface RecipePolicy {
  /** How long a pull waits for a build. */
  readonly holdMs: number;
  /** How long a failed build is not retried. */
  readonly failureMemoryMs: number;
}

/** An image that matches a recipe. */
export interface Wanted {
  /** The requested name, with the tag. */
  readonly image: string;
  readonly match: RecipeMatch;
  readonly target: RecipeTarget;
}

interface RecipeBuilds {
  /** Resolves when the image exists. Throws as `awaitBuild` does. */
  build(wanted: Wanted, signal: AbortSignal | undefined): Promise<void>;
  /** Whether it failed too recently to be retried. */
  hasFailed(image: string): boolean;
}

const BUSY_RETRY_SECONDS = 30;

export function createRecipeBuilds(deps: RecipeBuildsDeps, images: RecipeImages): RecipeBuilds {
  const { builds, startRecipe, policy, logAddress, memory, now, timeWait = waiting => waiting } = deps;
  const starts = createSingleFlight<BuildRecord>();
  // The images whose plans led to this one: bases are resolved like pulls.
  const chain = new AsyncLocalStorage<readonly string[]>();
  const ends = createSingleFlight<void>();
  const failures = memory.openCache<{ readonly error: RegistryError; readonly until: number }>();

  function findFailure(image: string): RegistryError | undefined {
    const failure = failures.get(image);
    return failure && now().getTime() < failure.until ? failure.error : undefined;
  }

  function rememberFailure(image: string, error: RegistryError, failedAt = now()): void {
    if (error.code !== 'MANIFEST_UNKNOWN') return;
    failures.set(image, { error, until: failedAt.getTime() + policy.failureMemoryMs });
  }

  async function start({ image, match, target }: Wanted): Promise<BuildRecord> {
    const plannedAt = now().getTime();
    try {
      const record = await chain.run([...(chain.getStore() ?? []), image], () => startRecipe(match, target));
      await images.begin(image, record.id, plannedAt);
      void ends(record.id, () => watch(image, record.id, plannedAt));
      return record;
    } catch (cause) {
      const error = startError(cause);
      rememberFailure(image, error);
      throw error;
    }
  }

  /** Records the outcome even if every client has left. */
  async function watch(image: string, id: string, plannedAt: number): Promise<void> {
    const record = await builds.wait(id, new AbortController().signal).catch(() => undefined);
    if (record?.status === 'failed') {
      // It may be of another process, and some time ago.
      const failedAt = record.endedAt === undefined ? now() : new Date(record.endedAt);
      rememberFailure(image, failedBuild(record, logAddress), failedAt);
      await images.forget(image, id).catch(() => {});
    }
    if (record?.status !== 'succeeded') return;
    failures.delete(image);
    // If this cannot be written, the next pull finds the outcome in the build's own record.
    await images.end(image, { buildId: id, digest: record.digest, plannedAt }).catch(() => {});
  }

  async function startAndWait(wanted: Wanted, signal: AbortSignal | undefined): Promise<void> {
    const begun = now().getTime();
    const { holdMs } = policy;
    const record = await waitUntil(
      { holdMs, signal },
      until =>
        untilAborted(
          starts(wanted.image, () => start(wanted)),
          until,
        ),
      () => notYet('it is being planned'),
    );
    const left = holdMs - (now().getTime() - begun);
    await awaitBuild(builds, record.id, { holdMs: left, signal, logAddress });
  }

  return {
    hasFailed: image => findFailure(image) !== undefined,
    async build(wanted, signal) {
      const failure = findFailure(wanted.image);
      if (failure) throw failure;
      if (chain.getStore()?.includes(wanted.image)) throw cycle(wanted.image);
      await timeWait(startAndWait(wanted, signal));
    },
  };
}

function cycle(image: string): RegistryError {
  return new RegistryError('MANIFEST_UNKNOWN', `${image} is not there, and its recipe would need it as a base`);
}

function startError(cause: unknown): RegistryError {
  const options = { cause, retryAfterSeconds: BUSY_RETRY_SECONDS };
  if (cause instanceof QueueFull) return new RegistryError('TOOMANYREQUESTS', cause.message, options);
  if (cause instanceof UnsupportedPlatform && cause.isTransient) {
    return new RegistryError('UNAVAILABLE', cause.message, options);
  }
  if (cause instanceof InvalidBuild || cause instanceof UnsupportedPlatform) {
    return new RegistryError('MANIFEST_UNKNOWN', `the recipe cannot be built: ${cause.message}`, { cause });
  }
  if (cause instanceof RegistryError) return cause;
  throw cause;
}
