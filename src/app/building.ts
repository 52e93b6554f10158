// Wires image builds: contexts, builders, the queue of builds, and recipes for pulls.
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { AccessTokens } from '../access/access-token.ts';
import { readOrMake } from '../access/keys.ts';
import type { CallerRateLimiter } from '../access/rate-limiter.ts';
import { type ContextOffers, createContextOffers } from '../builds/backends/kubernetes/archive.ts';
import type { Builds } from '../builds/builds.ts';
import { DEFAULT_CONTEXT_LIMITS } from '../builds/context/tree.ts';
import { unpackContext } from '../builds/context/unpack-context.ts';
import type { Execute } from '../builds/execution.ts';
import { createImageExecutor } from '../builds/executor/image-executor.ts';
import type { Platforms } from '../builds/executor/platforms.ts';
import { createRedaction } from '../builds/executor/redaction.ts';
import { createWorkspaces } from '../builds/executor/workspace.ts';
import type { BaseImages, OpenDestination } from '../builds/images.ts';
import { createPlan, listRead, type Plan, type PlanDeps, type PlanLimits, type PlanPolicy } from '../builds/plan.ts';
import type { Environment } from '../builds/process.ts';
import { type BuildsPolicy, createBuilds } from '../builds/queue/create.ts';
import type { RunAs } from '../builds/queue/run-job.ts';
import { InvalidRecipe } from '../builds/recipes/pattern.ts';
import { createRecipes, type Recipes } from '../builds/recipes/recipe.ts';
import type { BuildRecord } from '../builds/record.ts';
import { type BuildRequest, DEFAULT_REQUEST_LIMITS } from '../builds/request.ts';
import type { ContainerFileSpec } from '../builds/spec.ts';
import { ConfigError } from '../config/faults.ts';
import type { Config } from '../config/schema.ts';
import { createLeasedStore, type LeasedStore } from '../content/leased-store.ts';
import type { Damage } from '../content/verification.ts';
import { createCopy, createFinish } from '../copy/copy.ts';
import { createDestinations } from '../copy/destination.ts';
import type { HostedRepositories } from '../hosted/repositories.ts';
import { findRequester } from '../http/middleware/authentication.ts';
import { buildLogPath } from '../http/wave/build-response.ts';
import type { Memory } from '../memory.ts';
import { parsePlatform } from '../oci/platform.ts';
import { createBaseImages, locateBase } from '../pull/images.ts';
import type { Origin } from '../pull/origin.ts';
import type { StartRecipe } from '../pull/recipes/recipe-builds.ts';
import { createRecipeImages } from '../pull/recipes/recipe-images.ts';
import { createWithRecipes } from '../pull/recipes/recipe-registry.ts';
import type { LogAddress } from '../pull/recipes/wait-for-build.ts';
import type { RecordStore } from '../state/store.ts';
import { createStartBuildForPull } from '../submit/rate-limited-builds.ts';
import { createBuilderAccess } from './builder-access.ts';
import { type Builders, createBuilders } from './builders.ts';
import { createRecipeServing, createStartRecipe, type Pulling } from './pulling.ts';
import { contentFolder } from './stored-content.ts';

interface BuildingDeps {
  readonly config: Config;
  readonly log: Logger;
  readonly now: () => Date;
  /** As of LeasedStoreDeps. */
  readonly mayDelete: () => boolean;
  readonly records: RecordStore;
  readonly memory: Memory;
  readonly pulling: Pulling;
  readonly hosted: HostedRepositories;
  /** Undefined where callers need no credentials. */
  readonly accessTokens: AccessTokens | undefined;
  readonly environment: Environment;
  /** How builders on this machine reach us, with the port; undefined until we listen. */
  readonly findListenHost: () => string | undefined;
  readonly onEnded: (build: BuildRecord) => void;
  /** Whether the previous process crashed by itself. */
  readonly endedByItself: boolean;
  readonly onDamagedContext: (damage: Damage) => void;
  /** Rate-limits everything that starts builds. */
  readonly buildRate: CallerRateLimiter;
  /** Runs the work of a caller with the credentials of registries that it has stored. */
  readonly runAs: RunAs | undefined;
}

export interface Building {
  readonly builds: Builds;
  /** The contexts that pods fetch. */
  readonly buildContexts: ContextOffers;
  /** The address of a build's log. */
  readonly logAddress: LogAddress;
  readonly platforms: Pick<Builders, 'list' | 'sweep'>;
  readonly plan: Plan;
  /** Every image that a build would read. Throws InvalidBuild or RegistryError. */
  readonly listBases: (request: BuildRequest) => readonly Origin[];
  readonly contexts: Pick<LeasedStore, 'verify'>;
  close(): Promise<void>;
}

export async function createBuilding(deps: BuildingDeps): Promise<Building> {
  await using opened = new AsyncDisposableStack();
  const { config, now, pulling, hosted } = deps;
  let known: Builds | undefined;
  const recipes = openRecipes(config.builds.recipes);
  const contexts = await createLeasedStore({
    ...{ directory: contentFolder(config.dataDir, 'contexts'), memory: deps.memory, now, mayDelete: deps.mayDelete },
    onDamaged: deps.onDamagedContext,
  });
  opened.defer(() => contexts.close());
  const images = createBaseImages(pulling.origins);
  const openDestination = createDestinations({ ...pulling, hosted });
  const buildContexts = createContextOffers({
    key: await readOrMake(join(config.dataDir, 'builds', 'contexts-key'), () => randomBytes(32).toString('hex')),
    now,
  });
  const isUnderWay = async (id: string) => {
    const build = await known?.find(id);
    return known === undefined || build?.status === 'queued' || build?.status === 'running';
  };
  const afar = { contexts: buildContexts, isUnderWay };
  const platforms = createBuilders({ ...deps, afar, embedded: { images, openDestination } });
  opened.defer(() => platforms.close());
  const parts: Parts = { recipes, contexts, images, openDestination, platforms };

  const limits = planLimits(config);
  const policy: PlanPolicy = { defaultPlatforms: config.builds.platforms.map(parsePlatform) };
  const supports: PlanDeps['supports'] = async (_, spec) => void (await platforms.assign(spec));
  const plan = createPlan({ images, content: contexts, limits, policy, supports });
  const builds = await openBuilds(deps, parts);
  opened.defer(() => builds.close());
  known = builds;
  void platforms.sweep();
  const logAddress = createLogAddress(deps);
  serveRecipes(deps, recipes, { plan, builds, logAddress });

  const rooms = opened.move();
  return {
    builds,
    buildContexts,
    logAddress,
    platforms,
    contexts,
    plan,
    listBases: request => listRead(request, policy, limits).map(name => locateBase(pulling.origins, name)),
    close: () => rooms.disposeAsync(),
  };
}

/** Shared by several parts. */
interface Parts {
  readonly recipes: Recipes;
  readonly contexts: LeasedStore;
  readonly images: BaseImages;
  readonly openDestination: OpenDestination;
  readonly platforms: Platforms;
}

async function openBuilds(deps: BuildingDeps, parts: Parts): Promise<Builds> {
  const { config, log, now, records, pulling, onEnded } = deps;
  const { contexts, openDestination } = parts;
  return createBuilds({
    records,
    directory: join(config.dataDir, 'builds', 'logs'),
    executors: { containerfile: await openMaker(deps, parts), copy: createCopy({ ...pulling, openDestination }) },
    runAs: deps.runAs,
    sweepContexts: contexts.sweep,
    imageExists: async (image, digest) => {
      const colon = image.lastIndexOf(':');
      return (await openDestination(image.slice(0, colon)).findTag(image.slice(colon + 1))) === digest;
    },
    policy: buildsPolicy(config, deps.accessTokens !== undefined),
    redact: createRedaction(Object.values(config.builds.secrets)),
    ...{ onEnded, log, now },
    endedByItself: deps.endedByItself,
  });
}

async function openMaker(deps: BuildingDeps, parts: Parts): Promise<Execute<ContainerFileSpec>> {
  const { config, log, pulling } = deps;
  const { recipes, contexts, images, openDestination, platforms } = parts;
  return createImageExecutor({
    ...createBuilderAccess({ ...deps, recipes }),
    ...{ images, openDestination, platforms },
    isHosted: repository => pulling.origins.locateName(repository).registry.isHosted,
    workspaces: await createWorkspaces({
      directory: join(config.dataDir, 'builds', 'work'),
      onLeft: (folder, error) => log.warn({ folder, err: error }, 'the folder of a build cannot be removed'),
    }),
    unpackContext: (digest, target) => unpackContext(contexts, digest, target),
    removeTag: (repository, tag) => removeHostedTag(deps, repository, tag),
    finish: createFinish({ ...pulling, openDestination }),
  });
}

const MAX_STARTS = 3;

function buildsPolicy({ builds, tokens }: Config, limitsAnonymous: boolean): BuildsPolicy {
  return {
    concurrency: builds.concurrency,
    maxQueued: builds.queue.max,
    maxQueuedPerCaller: builds.queue.maxPerCaller,
    limitsAnonymous,
    timeoutMs: builds.timeoutMs,
    // A pull by a token finds its build during the token's lifetime.
    keepMs: Math.max(builds.keepMs, tokens.ttlMs),
    maxLogBytes: builds.maxLogBytes,
    infrastructureRetries: builds.retries,
    maxStarts: MAX_STARTS,
  };
}

/** A recipe is the operator's: it reads nothing with the credentials of the caller whose pull begins it. */
function asNobody(runAs: RunAs | undefined, start: StartRecipe): StartRecipe {
  return runAs ? (match, target) => runAs('', () => start(match, target)) : start;
}

/** Lets pulls of missing images build them. */
function serveRecipes(
  { config, log, now, records, memory, pulling, buildRate, runAs }: BuildingDeps,
  recipes: Recipes,
  { plan, builds, logAddress }: Pick<Building, 'plan' | 'builds' | 'logAddress'>,
): void {
  const { recipes: options, cacheRepository, repository, hold, failureMemoryMs } = config.builds;
  if (options.length === 0) return;
  const images = createRecipeImages(records, builds);
  const withRecipes = createWithRecipes({
    ...{ recipes, builds, images, logAddress, memory, now },
    startRecipe: asNobody(
      runAs,
      createStartRecipe({
        startBuildForPull: createStartBuildForPull({ builds, limiter: buildRate, findRequester }),
        defaultPlatforms: config.builds.platforms.length,
        ...{ plan, cacheRepository },
      }),
    ),
    policy: { holdMs: hold.pullMs, failureMemoryMs },
    onRenewalFailed: (image, error) =>
      log.warn({ image, err: error }, 'an image could not be rebuilt: the old one stays'),
  });
  pulling.serveRecipes(createRecipeServing({ ...pulling, recipes, images, withRecipes, repository }));
}

function planLimits({ builds: { limits } }: Config): PlanLimits {
  const { containerFileBytes, contextBytes, contextEntries } = limits;
  return {
    request: { ...DEFAULT_REQUEST_LIMITS, maxContainerFileBytes: containerFileBytes },
    context: {
      ...DEFAULT_CONTEXT_LIMITS,
      maxPackedBytes: contextBytes,
      maxBytes: contextBytes,
      maxEntries: contextEntries,
    },
  };
}

/** Tags in other registries stay: many lack an API for deletion. */
async function removeHostedTag({ pulling, hosted }: BuildingDeps, repository: string, tag: string): Promise<void> {
  if (pulling.origins.locateName(repository).registry.isHosted) await hosted.tags.delete(repository, tag);
}

function createLogAddress({ config, findListenHost }: BuildingDeps): LogAddress {
  return id => {
    const host = findListenHost();
    const base = config.publicUrl?.href ?? (host && `http://${host}`);
    return base ? new URL(buildLogPath(id), base).href : buildLogPath(id);
  };
}

/** Throws ConfigError for an invalid recipe. */
function openRecipes(options: Config['builds']['recipes']): Recipes {
  try {
    return createRecipes(options, process.cwd());
  } catch (error) {
    throw error instanceof InvalidRecipe ? new ConfigError([`builds.recipes: ${error.message}`]) : error;
  }
}
