// Wires the path of a pull: the cache of upstreams, registries by name, augmentation, and recipes for missing images.
import { readFile } from 'node:fs/promises';
import { relative } from 'node:path';
import type { Logger } from 'pino';
import type { Plan } from '../builds/plan.ts';
import type { RecipeMatch, Recipes } from '../builds/recipes/recipe.ts';
import { InvalidBuild } from '../builds/request.ts';
import type { Spec } from '../builds/spec.ts';
import { createBlobs } from '../cache/read-through/blobs.ts';
import { createManifests } from '../cache/read-through/manifests.ts';
import { createNegativeCache } from '../cache/read-through/negative-cache.ts';
import { createTags } from '../cache/read-through/tags.ts';
import type { TransfersDeps } from '../cache/read-through/transfers.ts';
import type { Config } from '../config/schema.ts';
import type { Memory } from '../memory.ts';
import { parsePlatform } from '../oci/platform.ts';
import { type Augmentations, createAugmentations } from '../pull/derived-images.ts';
import { createInspect, type Inspect } from '../pull/images.ts';
import { createDescribe, createDescribeRemote } from '../pull/layers/describe-layer.ts';
import { createIncludes } from '../pull/layers/includes.ts';
import { createLayerIndexes } from '../pull/layers/layer-indexes.ts';
import { createLayers, createOpenLayer, type Layers, type OpenLayer } from '../pull/layers/layers.ts';
import { createPlacing } from '../pull/layers/placing.ts';
import { createOrigins, type DecorateRegistry, type Origins } from '../pull/origin.ts';
import { createDescribeChanges, createPrepare, type DescribeChanges, type Prepare } from '../pull/prepare.ts';
import type { RecipeTarget, StartRecipe } from '../pull/recipes/recipe-builds.ts';
import type { RecipeImages } from '../pull/recipes/recipe-images.ts';
import type { WithRecipes } from '../pull/recipes/recipe-registry.ts';
import { createShadowedRegistry, type Shadow, shadowName } from '../pull/recipes/shadowed-registry.ts';
import { createCachedRegistries } from '../pull/registries.ts';
import type { Registry } from '../pull/registry.ts';
import type { TokenLayers } from '../pull/tokens/layers.ts';
import { createWithToken, type WithToken } from '../pull/tokens/token-registry.ts';
import type { RuleLayerStore } from '../rules/layers/layer-store.ts';
import type { DescribeRemote } from '../rules/rules.ts';
import type { RecordStore } from '../state/store.ts';
import type { StartBuildForPull } from '../submit/rate-limited-builds.ts';
import type { ActingCredentials, ScopePolicy } from '../upstream/auth/scopes.ts';
import type { Upstreams } from '../upstream/upstream.ts';
import type { Caching } from './caching.ts';
import { openUpstreams, type Patience } from './upstreams.ts';

interface PullingDeps {
  readonly config: Config;
  readonly log: Logger;
  readonly now: () => Date;
  readonly records: RecordStore;
  readonly memory: Memory;
  readonly tokenLayers: TokenLayers;
  readonly caching: Pick<Caching, 'content' | 'links'>;
  readonly layerStore: RuleLayerStore;
  /** By name. */
  readonly hosted: ReadonlyMap<string, Registry>;
  readonly dockerConfigPath: string | undefined;
  readonly patience: Partial<Patience> | undefined;
  /** For upstreams that receive clients' credentials. */
  readonly scopes?: ScopePolicy | undefined;
  /** Of callers who have stored some. */
  readonly acting?: ActingCredentials | undefined;
}

export interface Pulling {
  readonly origins: Origins;
  readonly upstreams: Upstreams;
  readonly layers: Layers;
  readonly augmentations: Augmentations;
  readonly openLayer: OpenLayer;
  /** Wraps every registry from now on. */
  serveRecipes(decorate: DecorateRegistry): void;
  readonly withToken: WithToken;
  readonly prepare: Prepare;
  readonly describeChanges: DescribeChanges;
  readonly describeRemote: DescribeRemote;
  readonly inspect: Inspect;
  close(): Promise<void>;
}

export function createPulling(deps: PullingDeps): Pulling {
  const { config, log, now, records, memory, layerStore, hosted } = deps;
  const { content, links } = deps.caching;
  const upstreams = openUpstreams(deps);

  const onFailed: TransfersDeps['onFailed'] = (digest, error) =>
    log.warn({ digest, err: error }, 'a transfer failed: nothing was cached, and its readers were cut off');
  const onWrongPart: TransfersDeps['onWrongPart'] = (digest, error) =>
    log.error({ digest, err: error }, 'the upstream sent a client a part of a blob that differs from the whole blob');
  const blobs = createBlobs({ content, links, onFailed, onWrongPart });
  const { tagFreshnessMs, freshness, stale, negativeMs } = config.cache;
  const negativeCache = createNegativeCache({ memoryMs: negativeMs, now, memory });
  const manifests = createManifests({ content, links, memory, negativeCache, onUsed: content.use });
  const policy = { tagFreshnessMs, freshness, staleMaxAgeMs: stale.maxAgeMs, staleOn: stale.on, negativeMs };
  const tags = createTags({ records, now, policy, manifests, memory });
  const registryOf = createCachedRegistries({ tags, manifests, blobs });
  const { defaultUpstream } = config;
  // Recipes depend on builds, which depend on everything here.
  let serve: DecorateRegistry = registry => registry;
  const decorate: DecorateRegistry = registry => serve(registry);
  const origins = createOrigins({
    upstreams,
    registryOf,
    hosted,
    ownHosts: ownHosts(config),
    defaultUpstream,
    decorate,
  });

  const { unpackedLayerBytes, unpackRatio, indexedLayerBytes, indexedEntries, linkWaitMs } = config.limits;
  const indexLimits = { maxUnpackedBytes: indexedLayerBytes, maxRatio: unpackRatio, maxEntries: indexedEntries };
  const layers = createLayers({
    ...{ content, upstreams, origins, stored: deps.tokenLayers, ruleLayers: layerStore, onFailed },
    limits: indexLimits,
  });
  const placeLayers = createPlacing({
    indexes: createLayerIndexes({ records, now, limits: indexLimits, memory }),
    ...{ layers, content, records, memory, now, waitMs: linkWaitMs },
    onSlow: image => log.info({ image }, 'still reading the layers of an image to find its links'),
  });
  const augmentations = createAugmentations({
    placeLayers,
    memory,
    onUsed: content.use,
    onWarning: (image, warning) => log.warn({ image }, warning),
  });
  const limits = { maxUnpackedBytes: unpackedLayerBytes, maxRatio: unpackRatio };
  const describeWanted = createDescribe({ origins, upstreams, content, limits, memory });
  const readIncludes = createIncludes(origins);
  const describeChanges = createDescribeChanges({ describeWanted, readIncludes });
  return {
    ...{ origins, upstreams, layers, augmentations },
    openLayer: createOpenLayer({ describeWanted, layers }),
    serveRecipes(decorated) {
      serve = decorated;
    },
    withToken: createWithToken({ layers, augmentations, memory }),
    prepare: createPrepare({ origins, augmentations, describeChanges }),
    describeChanges,
    describeRemote: createDescribeRemote({ describeWanted, readIncludes }),
    inspect: createInspect(origins),
    close: () => upstreams.close(),
  };
}

/** All loopback names are ours to clients on this machine. */
const LOCAL_NAMES = ['localhost', '127.0.0.1', '[::1]'];

function ownHosts({ publicUrl, hosts, listen: { host, port } }: Config): ReadonlySet<string> {
  const names = [host.includes(':') ? `[${host}]` : host, ...LOCAL_NAMES, ...hosts];
  return new Set([...names.map(name => `${name}:${port}`), ...(publicUrl ? [publicUrl.host] : [])]);
}

export function createStartRecipe(deps: {
  readonly plan: Plan;
  readonly startBuildForPull: StartBuildForPull;
  /** The platforms of a build that names none. */
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

/** Images built for a hosted name are pushed there; those for an upstream's name to a repository of ours behind it. */
export function createRecipeServing({
  origins,
  recipes,
  images,
  withRecipes,
  repository,
}: {
  readonly origins: Origins;
  readonly recipes: Recipes;
  readonly images: Pick<RecipeImages, 'wasBuilt'>;
  readonly withRecipes: WithRecipes;
  /** The full name of the repository that contains images built for upstreams' names. */
  readonly repository: string;
}): (registry: Registry) => Registry {
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
