// The rooms that build what is missing: builders, the queue of builds, and recipes for pulls.
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { AccessTokens } from '../access/access-token.ts';
import type { Builds } from '../build/builds.ts';
import { createContextStore } from '../build/context/context-store.ts';
import { DEFAULT_CONTEXT_LIMITS } from '../build/context/limits.ts';
import { unpackContext } from '../build/context/unpack-context.ts';
import type { Environment } from '../build/environment.ts';
import { createImageMaker } from '../build/make/image-maker.ts';
import type { Platforms } from '../build/make/platforms.ts';
import { createRedaction } from '../build/make/redaction.ts';
import { createWorkspaces } from '../build/make/workspace.ts';
import { createBuilds } from '../build/orchestration/create.ts';
import { createPlan, listRead, type Plan, type PlanLimits, type PlanPolicy } from '../build/plan.ts';
import { InvalidRecipe } from '../build/recipes/pattern.ts';
import { createRecipes, type Recipes } from '../build/recipes/recipe.ts';
import type { BuildRecord } from '../build/record.ts';
import { type BuildRequest, DEFAULT_REQUEST_LIMITS } from '../build/request.ts';
import type { Config } from '../config/schema.ts';
import { ConfigError } from '../config.ts';
import type { Hosted } from '../hosted/hosted.ts';
import { buildLogPath } from '../http/build-response.ts';
import { parsePlatform } from '../oci/platform.ts';
import { createBaseImages, locateBase } from '../proxy/base-images.ts';
import { createCopy, createFinish } from '../proxy/copy.ts';
import { createDestinations } from '../proxy/destination.ts';
import type { LogAddress } from '../proxy/held.ts';
import type { Origin } from '../proxy/origin.ts';
import { createWithRecipes } from '../proxy/recipe-registry.ts';
import type { RecordStore } from '../state/store.ts';
import { createBuilderAccess } from './builder-access.ts';
import { createBuilders } from './builders.ts';
import type { Pulling } from './pulling.ts';
import { createRecipeServing, createStartRecipe } from './recipes.ts';

export interface BuildingDeps {
  readonly config: Config;
  readonly log: Logger;
  readonly now: () => Date;
  readonly records: RecordStore;
  readonly pulling: Pulling;
  readonly hosted: Hosted;
  /** Undefined where callers need no credentials. */
  readonly accessTokens: AccessTokens | undefined;
  readonly environment: Environment;
  /** How builders on this machine reach us, with the port; undefined as long as nobody listens. */
  readonly findListenHost: () => string | undefined;
  readonly onEnded: (build: BuildRecord) => void;
}

export interface Building {
  readonly builds: Builds;
  /** Where a build's log is. */
  readonly logAddress: LogAddress;
  readonly platforms: Pick<Platforms, 'list'>;
  readonly plan: Plan;
  /** Every image that a build would read. Throws InvalidBuild or RegistryError. */
  readonly listBases: (request: BuildRequest) => readonly Origin[];
  close(): Promise<void>;
}

export async function createBuilding(deps: BuildingDeps): Promise<Building> {
  const { config, log, now, records, pulling, hosted } = deps;
  const { builds: options, dataDir } = config;
  const directory = join(dataDir, 'builds');
  const recipes = openRecipes(options.recipes);
  const contexts = await createContextStore({ directory: join(directory, 'contexts'), now });
  const images = createBaseImages(pulling.origins);
  const openDestination = createDestinations({ ...pulling, hosted });

  const platforms = createBuilders({ ...deps, embedded: { images, openDestination } });
  const limits = planLimits(config);
  const policy: PlanPolicy = { defaultPlatforms: options.platforms.map(parsePlatform) };
  const plan = createPlan({
    images,
    content: contexts,
    limits,
    policy,
    supports: async (_, spec) => void (await platforms.assign(spec)),
  });

  const copying = { ...pulling, openDestination };
  const finish = createFinish(copying);
  const containerfile = createImageMaker({
    ...createBuilderAccess({ ...deps, recipes }),
    isHosted: repository => pulling.origins.locateName(repository).registry.isHosted,
    images,
    openDestination,
    platforms,
    workspaces: await createWorkspaces({
      directory: join(directory, 'work'),
      onLeft: (folder, error) => log.warn({ folder, err: error }, 'a build left a folder that cannot be removed'),
    }),
    unpackContext: (digest, target) => unpackContext(contexts, digest, target),
    removeTag: async (repository, tag) => removeHostedTag(deps, repository, tag),
    finish,
  });
  const builds = await createBuilds({
    records,
    directory: join(directory, 'logs'),
    makers: { containerfile, copy: createCopy(copying) },
    sweepContexts: contexts.sweep,
    isThere: async (image, digest) => {
      const colon = image.lastIndexOf(':');
      return (await openDestination(image.slice(0, colon)).findTag(image.slice(colon + 1))) === digest;
    },
    policy: {
      concurrency: options.concurrency,
      maxQueued: options.queue.max,
      maxQueuedPerCaller: options.queue.maxPerCaller,
      timeoutMs: options.timeoutMs,
      // A pull by a token finds its build for as long as the token lives.
      keepMs: Math.max(options.keepMs, config.tokens.ttlMs),
      maxLogBytes: options.maxLogBytes,
      infrastructureRetries: options.retries,
      maxStarts: 3,
    },
    redact: createRedaction(Object.values(options.secrets)),
    onEnded: deps.onEnded,
    log,
    now,
  });

  const logAddress = createLogAddress(deps);
  const withRecipes = createWithRecipes({
    ...{ recipes, builds, records, logAddress, now },
    startRecipe: createStartRecipe({ plan, builds, cacheRepository: options.cacheRepository }),
    policy: { holdMs: options.hold.pullMs, failureMemoryMs: options.failureMemoryMs },
    onRenewalFailed: (image, error) =>
      log.warn({ image, err: error }, 'an image could not be built anew: the old one stays'),
  });
  if (options.recipes.length > 0)
    pulling.serveRecipes(createRecipeServing({ ...pulling, recipes, withRecipes, repository: options.repository }));

  return {
    builds,
    logAddress,
    platforms,
    plan,
    listBases: request => listRead(request, policy, limits).map(name => locateBase(pulling.origins, name)),
    async close() {
      await builds.close();
      await platforms.close();
      await contexts.close();
    },
  };
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

/** Tags of another registry stay: the API for deleting them is one that many lack. */
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

/** Throws ConfigError for a recipe that is none. */
function openRecipes(options: Config['builds']['recipes']): Recipes {
  try {
    return createRecipes(options, process.cwd());
  } catch (error) {
    throw error instanceof InvalidRecipe ? new ConfigError([`builds.recipes: ${error.message}`]) : error;
  }
}
