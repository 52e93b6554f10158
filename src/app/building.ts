// Wires image builds: contexts, builders, the queue of builds, and the builds that pulls start.
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import type { Logger } from 'pino';
import type { AccessTokens } from '../access/access-token.ts';
import { readOrMake } from '../access/keys.ts';
import type { CallerRateLimiter } from '../access/rate-limiter.ts';
import { type ContextOffers, createContextOffers } from '../builds/backends/kubernetes/archive.ts';
import type { Builds } from '../builds/builds.ts';
import { DEFAULT_CONTEXT_LIMITS } from '../builds/context/tree.ts';
import { unpackContext } from '../builds/context/unpack-context.ts';
import type { Execute } from '../builds/execution.ts';
import { createImageExecutor, type ImageExecutorDeps } from '../builds/executor/image-executor.ts';
import type { Platforms } from '../builds/executor/platforms.ts';
import { createRedaction } from '../builds/executor/redaction.ts';
import { withSif } from '../builds/executor/sif.ts';
import { createWorkspaces } from '../builds/executor/workspace.ts';
import type { BaseImages, OpenDestination } from '../builds/images.ts';
import { createPlan, listRead, type Plan, type PlanDeps, type PlanLimits, type PlanPolicy } from '../builds/plan.ts';
import type { Environment } from '../builds/process.ts';
import { type BuildsPolicy, createBuilds } from '../builds/queue/create.ts';
import type { PrepareRun } from '../builds/queue/jobs.ts';
import type { RunAs } from '../builds/queue/run-job.ts';
import type { RecipeMatch } from '../builds/recipes/recipe.ts';
import type { BuildRecord } from '../builds/record.ts';
import { type BuildRequest, DEFAULT_REQUEST_LIMITS, InvalidBuild } from '../builds/request.ts';
import type { ContainerFileSpec, Spec } from '../builds/spec.ts';
import type { Config } from '../config/schema.ts';
import { createLeasedStore, type LeasedStore } from '../content/leased-store.ts';
import type { Damage } from '../content/verification.ts';
import { createCopy, createFinish } from '../copy/copy.ts';
import { createDestinations } from '../copy/destination.ts';
import type { HostedRepositories } from '../hosted/repositories.ts';
import { findRequester } from '../http/middleware/authentication.ts';
import type { Memory } from '../memory.ts';
import type { Digest } from '../oci/digest.ts';
import { parsePlatform } from '../oci/platform.ts';
import { createBaseImages, locateBase } from '../pull/images.ts';
import type { Origin } from '../pull/origin.ts';
import type { RecipeTarget, StartRecipe } from '../pull/recipes/recipe-builds.ts';
import type { RecordStore } from '../state/store.ts';
import { createStartBuildForPull, type StartBuildForPull } from '../submit/rate-limited-builds.ts';
import { createBuilderAccess, createSharedOffers } from './builder-access.ts';
import { type Builders, createBuilders } from './builders.ts';
import type { Pulling } from './pulling.ts';
import type { OpenContent } from './stored-content.ts';
import type { Worker } from './worker.ts';

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
  /** Our host with its port for builders on this machine; undefined until we listen. */
  readonly findListenHost: () => string | undefined;
  /** As of AppDeps. */
  readonly listening?: Promise<void> | undefined;
  readonly onEnded: (build: BuildRecord) => void;
  /** Whether the previous process crashed by its own fault. */
  readonly endedByItself: boolean;
  /** Absent: this process alone has the data directory. */
  readonly worker: Pick<Worker, 'number'> | undefined;
  readonly onDamagedContext: (damage: Damage) => void;
  readonly openContent: OpenContent;
  /** Rate-limits everything that starts builds. */
  readonly buildRate: CallerRateLimiter;
  /** Runs work with the registry credentials stored by a caller. */
  readonly runAs: RunAs | undefined;
  readonly prepareBuild?: PrepareRun | undefined;
}

export interface Building {
  readonly builds: Builds;
  /** The contexts that pods fetch. */
  readonly buildContexts: ContextOffers;
  readonly platforms: Pick<Builders, 'list' | 'listKnown'>;
  /** Removes work of builders that no build needs. Never rejects. */
  readonly sweepBuilders: () => Promise<void>;
  /** For pulls of what is missing. */
  readonly startRecipe: StartRecipe;
  readonly plan: Plan;
  /** Every image that a build would read. Throws InvalidBuild or RegistryError. */
  readonly listBases: (request: BuildRequest) => readonly Origin[];
  readonly contexts: Pick<LeasedStore, 'verify'>;
  close(): Promise<void>;
}

export async function createBuilding(deps: BuildingDeps): Promise<Building> {
  await using opened = new AsyncDisposableStack();
  const { config, now, pulling, hosted } = deps;
  const stored = await deps.openContent('contexts', { onDamaged: deps.onDamagedContext });
  const contexts = await createLeasedStore({ stored, directory: stored.directory, now, mayDelete: deps.mayDelete });
  opened.defer(() => contexts.close());
  const images = createBaseImages(pulling.origins);
  const openDestination = createDestinations({ ...pulling, hosted });
  const sharedFiles = deps.records.locks.areShared ? createSharedOffers(deps.records, contexts) : undefined;
  const buildContexts = createContextOffers({
    key: await readOrMake(join(config.dataDir, 'builds', 'contexts-key'), () => randomBytes(32).toString('hex')),
    ...{ now, files: sharedFiles },
  });
  const platforms = createBuilders({ ...deps, contexts: buildContexts, embedded: { images, openDestination } });
  opened.defer(() => platforms.close());
  const isOffered = sharedFiles?.isOffered ?? (async () => false);
  const parts: Parts = { contexts, images, openDestination, platforms, isOffered };

  const limits = planLimits(config);
  const policy: PlanPolicy = { defaultPlatforms: config.builds.platforms.map(parsePlatform) };
  const supports: PlanDeps['supports'] = async (_, spec) => void (await platforms.assign(spec));
  const plan = createPlan({ images, content: contexts, limits, policy, supports });
  const builds = await openBuilds(deps, parts);
  opened.defer(() => builds.close());
  const isUnderWay = async (id: string) => ['queued', 'running'].includes((await builds.find(id))?.status ?? '');
  const sweepBuilders = () => platforms.sweep(isUnderWay);
  void sweepBuilders();

  const resources = opened.move();
  return {
    builds,
    buildContexts,
    platforms,
    sweepBuilders,
    contexts,
    plan,
    startRecipe: asNobody(
      deps.runAs,
      createStartRecipe({
        startBuildForPull: createStartBuildForPull({ builds, limiter: deps.buildRate, findRequester }),
        defaultPlatforms: config.builds.platforms.length,
        cacheRepository: config.builds.cacheRepository,
        plan,
      }),
    ),
    listBases: request => listRead(request, policy, limits).map(name => locateBase(pulling.origins, name)),
    close: () => resources.disposeAsync(),
  };
}

/** Shared by several parts. */
interface Parts {
  readonly contexts: LeasedStore;
  /** Whether a pod may still fetch it. */
  readonly isOffered: (digest: Digest) => Promise<boolean>;
  readonly images: BaseImages;
  readonly openDestination: OpenDestination;
  readonly platforms: Platforms;
}

interface MakerParts extends Parts, Pick<ImageExecutorDeps, 'workspaces' | 'removeTag'> {}

async function openBuilds(deps: BuildingDeps, parts: Parts): Promise<Builds> {
  const { config, log, now, records, pulling, onEnded } = deps;
  const { contexts, openDestination, isOffered } = parts;
  const workspaces = await createWorkspaces({
    // What is left there is removed at the start: each worker has a folder of its own.
    directory: join(config.dataDir, 'builds', 'work', ...(deps.worker ? [String(deps.worker.number)] : [])),
    onLeft: (folder, error) => log.warn({ folder, err: error }, 'the folder of a build cannot be removed'),
  });
  const removeTag = (repository: string, tag: string) => removeHostedTag(deps, repository, tag);
  const { environment } = deps;
  const sif = { ...parts, options: config.builds.sif, workspaces, removeTag, environment };
  return createBuilds({
    records,
    directory: join(config.dataDir, 'builds', 'logs'),
    executors: {
      containerfile: withSif(openMaker(deps, { ...parts, workspaces, removeTag }), sif),
      copy: withSif(createCopy({ ...pulling, openDestination }), sif),
    },
    runAs: deps.runAs,
    prepareRun: deps.prepareBuild,
    sweepContexts: isUsed => contexts.sweep(async digest => (await isUsed(digest)) || isOffered(digest)),
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

function openMaker(deps: BuildingDeps, parts: MakerParts): Execute<ContainerFileSpec> {
  const { pulling } = deps;
  const { contexts, images, openDestination, platforms, workspaces, removeTag } = parts;
  return createImageExecutor({
    ...createBuilderAccess({ ...deps, recipes: pulling.recipes }),
    ...{ images, openDestination, platforms },
    isHosted: repository => pulling.origins.locateName(repository).registry.isHosted,
    workspaces,
    unpackContext: (digest, target) => unpackContext(contexts, digest, target),
    removeTag,
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
    keepMs: Math.max(builds.keepMs, tokens.ttlMs, tokens.workflow.maxMs),
    maxLogBytes: builds.maxLogBytes,
    infrastructureRetries: builds.retries,
    maxStarts: MAX_STARTS,
    failureMemoryMs: builds.failureMemoryMs,
  };
}

/** A recipe is the operator's: it does not use the registry credentials of the caller whose pull starts it. */
function asNobody(runAs: RunAs | undefined, start: StartRecipe): StartRecipe {
  return runAs ? (match, target) => runAs('', () => start(match, target)) : start;
}

/** Plans and submits the build of a recipe for a pull, within the rate of its caller. */
function createStartRecipe(deps: {
  readonly plan: Plan;
  readonly startBuildForPull: StartBuildForPull;
  /** The number of platforms of a build that names none. */
  readonly defaultPlatforms: number;
  readonly cacheRepository: string | undefined;
}): StartRecipe {
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
