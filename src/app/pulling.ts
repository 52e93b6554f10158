// Wires the path of a pull: the cache of upstreams, registries by name, augmentation, and recipes for missing images.
import type { Logger } from 'pino';
import type { Builds } from '../builds/builds.ts';
import { InvalidRecipe } from '../builds/recipes/pattern.ts';
import { createRecipes, type Recipes } from '../builds/recipes/recipe.ts';
import { createBlobs } from '../cache/read-through/blobs.ts';
import { createManifests } from '../cache/read-through/manifests.ts';
import { createNegativeCache } from '../cache/read-through/negative-cache.ts';
import { createTags } from '../cache/read-through/tags.ts';
import type { TransfersDeps } from '../cache/read-through/transfers.ts';
import { ConfigError } from '../config/faults.ts';
import type { Config } from '../config/schema.ts';
import { buildLogPath } from '../http/wave/build-response.ts';
import type { Memory } from '../memory.ts';
import { type Augmentations, createAugmentations } from '../pull/derived-images.ts';
import { createInspect, type Inspect } from '../pull/images.ts';
import { createDescribe, createDescribeRemote } from '../pull/layers/describe-layer.ts';
import { createIncludes } from '../pull/layers/includes.ts';
import { createLayerIndexes } from '../pull/layers/layer-indexes.ts';
import { createLayers, createOpenLayer, type Layers, type OpenLayer } from '../pull/layers/layers.ts';
import { createPlacing } from '../pull/layers/placing.ts';
import { createOrigins, type Origins } from '../pull/origin.ts';
import { createDescribeChanges, createPrepare, type DescribeChanges, type Prepare } from '../pull/prepare.ts';
import type { StartRecipe } from '../pull/recipes/recipe-builds.ts';
import { createRecipeImages } from '../pull/recipes/recipe-images.ts';
import { createWithRecipes } from '../pull/recipes/recipe-registry.ts';
import type { LogAddress } from '../pull/recipes/wait-for-build.ts';
import { createRegistries, type RecipeLayer } from '../pull/registries.ts';
import type { Registry } from '../pull/registry.ts';
import type { TokenLayers } from '../pull/tokens/layers.ts';
import { createWithToken, type WithToken } from '../pull/tokens/token-registry.ts';
import type { RuleLayerStore } from '../rules/layers/layer-store.ts';
import type { DescribeRemote } from '../rules/rules.ts';
import type { RecordStore } from '../state/store.ts';
import type { ActingCredentials, ScopePolicy } from '../upstream/auth/scopes.ts';
import type { Upstreams } from '../upstream/upstream.ts';
import type { Caching } from './caching.ts';
import type { Observer } from './observing.ts';
import { openUpstreams, type Patience } from './upstreams.ts';

interface PullingDeps {
  readonly config: Config;
  readonly log: Logger;
  readonly now: () => Date;
  readonly records: RecordStore;
  readonly memory: Memory;
  readonly tokenLayers: TokenLayers;
  readonly caching: Pick<Caching, 'content' | 'upstreams'>;
  readonly layerStore: RuleLayerStore;
  /** By name. */
  readonly hosted: ReadonlyMap<string, Registry>;
  readonly dockerConfigPath: string | undefined;
  readonly patience: Partial<Patience> | undefined;
  readonly observer: Observer;
  /** For upstreams that receive clients' credentials. */
  readonly scopes?: ScopePolicy | undefined;
  /** For callers who have stored registry credentials. */
  readonly acting?: ActingCredentials | undefined;
  readonly findListenHost: () => string | undefined;
  /** Builds missing images. It reads the registries that are created here, so it opens later: a pull that needs it waits. */
  readonly building: Promise<RecipeBuilding>;
}

interface RecipeBuilding {
  readonly builds: Pick<Builds, 'find' | 'wait'>;
  readonly startRecipe: StartRecipe;
}

export interface Pulling {
  readonly origins: Origins;
  readonly upstreams: Upstreams;
  readonly layers: Layers;
  readonly augmentations: Augmentations;
  readonly openLayer: OpenLayer;
  readonly recipes: Recipes;
  /** The address of a build's log. */
  readonly logAddress: LogAddress;
  readonly withToken: WithToken;
  readonly prepare: Prepare;
  readonly describeChanges: DescribeChanges;
  readonly describeRemote: DescribeRemote;
  readonly inspect: Inspect;
  close(): Promise<void>;
}

export function createPulling(deps: PullingDeps): Pulling {
  const { config, log, now, records, memory, layerStore, hosted, observer } = deps;
  const { content, upstreams: fetched } = deps.caching;
  const upstreams = openUpstreams(deps);

  const onFailed: TransfersDeps['onFailed'] = (digest, error) =>
    log.warn(
      { digest, requestId: observer.scope.current()?.id, err: error },
      'a transfer failed: nothing was cached, and its readers were cut off',
    );
  const onWrongPart: TransfersDeps['onWrongPart'] = (digest, error) =>
    log.error({ digest, err: error }, 'the upstream sent a client a part of a blob that differs from the whole blob');
  const blobs = createBlobs({ ...fetched, onFailed, onWrongPart, onLookup: observer.onBlob });
  const { tagFreshnessMs, freshness, stale, negativeMs } = config.cache;
  const negativeCache = createNegativeCache({ memoryMs: negativeMs, now, memory });
  const manifests = createManifests({
    ...fetched,
    memory,
    negativeCache,
    onUsed: content.use,
    onLookup: observer.onManifest,
  });
  const policy = { tagFreshnessMs, freshness, staleMaxAgeMs: stale.maxAgeMs, staleOn: stale.on, negativeMs };
  const tags = createTags({ records, now, policy, manifests, memory, onLookup: observer.onTag });
  const { defaultUpstream } = config;
  const recipes = openRecipes(config.builds.recipes);
  const logAddress = createLogAddress(deps);
  const registries = createRegistries({
    ...{ tags, manifests, blobs, hosted },
    recipes: config.builds.recipes.length > 0 ? createRecipeLayer(deps, recipes, logAddress) : undefined,
  });
  const origins = createOrigins({ upstreams, registries, ownHosts: ownHosts(config), defaultUpstream });

  const { unpackedLayerBytes, unpackRatio, indexedLayerBytes, indexedEntries, linkWaitMs } = config.limits;
  const indexLimits = { maxUnpackedBytes: indexedLayerBytes, maxRatio: unpackRatio, maxEntries: indexedEntries };
  const layers = createLayers({
    ...{ content, upstreams, origins, stored: deps.tokenLayers, ruleLayers: layerStore, onFailed },
    limits: indexLimits,
  });
  const placing = createPlacing({
    indexes: createLayerIndexes({ records, now, limits: indexLimits, memory }),
    ...{ layers, content, records, memory, now, waitMs: linkWaitMs },
    onSlow: image => log.info({ image }, 'still reading the layers of an image to find its links'),
  });
  const augmentations = createAugmentations({
    placing,
    memory,
    onUsed: content.use,
    onServed: observer.onAugmented,
    onDerived: observer.onDerived,
    onWarning: (image, warning) => log.warn({ image }, warning),
  });
  const limits = { maxUnpackedBytes: unpackedLayerBytes, maxRatio: unpackRatio };
  const describeWanted = createDescribe({ origins, upstreams, content, limits, memory });
  const readIncludes = createIncludes(origins);
  const describeChanges = createDescribeChanges({ describeWanted, readIncludes });
  return {
    ...{ origins, upstreams, recipes, logAddress, layers, augmentations },
    openLayer: createOpenLayer({ describeWanted, layers }),
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

function createRecipeLayer(
  { config, log, now, records, memory, building, observer }: PullingDeps,
  recipes: Recipes,
  logAddress: LogAddress,
): RecipeLayer {
  const { repository, hold, failureMemoryMs } = config.builds;
  const builds: RecipeBuilding['builds'] = {
    find: async id => (await building).builds.find(id),
    wait: async (id, signal) => (await building).builds.wait(id, signal),
  };
  const images = createRecipeImages(records, builds);
  const withRecipes = createWithRecipes({
    ...{ recipes, builds, images, logAddress, memory, now, timeWait: observer.timeWait },
    startRecipe: async (match, target) => (await building).startRecipe(match, target),
    policy: { holdMs: hold.pullMs, failureMemoryMs },
    onRenewalFailed: (image, error) =>
      log.warn({ image, err: error }, 'an image could not be rebuilt: the old one is served'),
  });
  return { withRecipes, covers: recipes.covers, wasBuilt: images.wasBuilt, repository };
}

/** Throws ConfigError for an invalid recipe. */
export function openRecipes(options: Config['builds']['recipes']): Recipes {
  try {
    return createRecipes(options, process.cwd());
  } catch (error) {
    throw error instanceof InvalidRecipe ? new ConfigError([{ key: 'builds.recipes', message: error.message }]) : error;
  }
}

function createLogAddress({ config, findListenHost }: PullingDeps): LogAddress {
  return id => {
    const host = findListenHost();
    const base = config.publicUrl?.href ?? (host && `${config.tls ? 'https' : 'http'}://${host}`);
    return base ? new URL(buildLogPath(id), base).href : buildLogPath(id);
  };
}
