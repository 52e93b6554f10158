// The builders of this service: those in the configuration, or the best on this machine.
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { type Backend, type Detect, detectBackends, type IsUnderWay } from '../builds/backend.ts';
import { createBuildahBackend, detectBuildah } from '../builds/backends/buildah/backend.ts';
import { createBuildkitBackend, detectBuildkit } from '../builds/backends/buildkit/backend.ts';
import { createDockerBackend, detectDocker } from '../builds/backends/docker/backend.ts';
import { createEmbeddedBackend, type EmbeddedDeps } from '../builds/backends/embedded/backend.ts';
import type { ContextOffers } from '../builds/backends/kubernetes/archive.ts';
import type { KubernetesOptions } from '../builds/backends/kubernetes/backend.ts';
import { BackendUnavailable } from '../builds/execution.ts';
import { createPlatforms, type Platforms } from '../builds/executor/platforms.ts';
import type { Environment } from '../builds/process.ts';
import { defaultCluster } from '../config/kubernetes-schema.ts';
import type { Config } from '../config/schema.ts';
import { formatPlatform, parsePlatform } from '../oci/platform.ts';

interface BuildersDeps {
  readonly config: Config;
  readonly log: Logger;
  readonly environment: Environment;
  readonly embedded: Omit<EmbeddedDeps, 'name'>;
  /** The contexts that builders fetch from Veneer. */
  readonly contexts: ContextOffers;
  /** Builders are looked for soon after this resolves: the programs that are run for it would delay a start. Default: at once. */
  readonly listening?: Promise<void> | undefined;
}

export interface Builders extends Platforms {
  /** Removes work of builders that no build needs. Never rejects. */
  sweep(isUnderWay: IsUnderWay): Promise<void>;
  close(): Promise<void>;
}

type BackendConfig = Config['builds']['backends'][number];

/** For the requests that have waited for the start. */
const AFTER_LISTENING_MS = 100;

/** Builders are detected in the background: callers wait until that is done. */
export function createBuilders(deps: BuildersDeps): Builders {
  const { log, listening } = deps;
  const stop = new AbortController();
  const stopped = new Promise(resolve => stop.signal.addEventListener('abort', resolve));
  const onUnavailable = (builder: string, reason: string) => log.warn({ builder, reason }, 'a builder does not answer');
  const onError = (builder: string, error: unknown) => log.error({ builder, err: error }, 'a builder cannot be used');
  const found = Promise.race([listening?.then(() => delay(AFTER_LISTENING_MS, undefined, { ref: false })), stopped])
    .then(() => findBuilders(deps, stop.signal))
    .then(backends => ({ backends, platforms: createPlatforms(backends, { onUnavailable, onError }) }));
  let known: Platforms['listKnown'] = () => [];
  found
    .then(({ platforms }) => {
      known = platforms.listKnown;
      return announce(platforms, log);
    })
    .catch(error => {
      if (!stop.signal.aborted) log.error({ err: error }, 'no builder can be used');
    });
  return {
    list: async () => (await found).platforms.list(),
    listKnown: () => known(),
    assign: async (spec, without) => (await found).platforms.assign(spec, without),
    async sweep(isUnderWay) {
      const { backends } = await found.catch(() => ({ backends: [] }));
      for (const { name, sweep } of backends) {
        await sweep?.(isUnderWay).catch(error =>
          log.warn({ builder: name, err: error }, 'leftovers of a builder cannot be removed'),
        );
      }
    },
    async close() {
      stop.abort();
      const backends = await found.then(({ backends }) => backends).catch(() => []);
      await using opened = new AsyncDisposableStack();
      for (const backend of backends) opened.defer(() => backend.close());
    },
  };
}

async function announce(platforms: Platforms, log: Logger): Promise<void> {
  for (const { backend, platforms: some, fault } of await platforms.list()) {
    if (fault !== undefined) continue;
    log.info({ builder: backend.name, platforms: some.map(formatPlatform) }, `builds with ${backend.kind}`);
    for (const note of backend.listNotes?.() ?? []) log.warn({ builder: backend.name }, note);
  }
}

/** In the configured order. One that cannot be created is logged, and omitted. */
async function findBuilders(deps: BuildersDeps, signal: AbortSignal): Promise<readonly Backend[]> {
  signal.throwIfAborted();
  const found = await Promise.all(
    deps.config.builds.backends.map(async one => {
      try {
        return await openBuilder(one, deps, signal);
      } catch (error) {
        signal.throwIfAborted();
        deps.log.error({ builder: one.type, err: error }, 'a builder cannot be used');
        return [];
      }
    }),
  );
  return found.flat();
}

async function openBuilder(one: BackendConfig, deps: BuildersDeps, signal: AbortSignal): Promise<readonly Backend[]> {
  const { environment, embedded } = deps;
  const name = 'name' in one && one.name !== undefined ? one.name : one.type;
  const platforms = 'platforms' in one ? one.platforms?.map(parsePlatform) : undefined;
  switch (one.type) {
    case 'auto':
      return findBest(deps, signal);
    case 'embedded':
      return [createEmbeddedBackend({ name, ...embedded })];
    case 'buildkit': {
      const { address, tls, hostNetwork } = { address: undefined, tls: undefined, hostNetwork: false, ...one };
      const host = address ?? environment.BUILDKIT_HOST ?? DEFAULT_BUILDKIT;
      return [
        createBuildkitBackend({ name, address: host, tls: tls && tlsPaths(tls), platforms, environment, hostNetwork }),
      ];
    }
    case 'docker':
      return [createDockerBackend({ ...one, name, platforms, environment })];
    case 'buildah':
      return [createBuildahBackend({ ...one, name, platforms, environment })];
    case 'kubernetes':
      return [await openKubernetes({ ...one, name, platforms }, deps)];
  }
}

type KubernetesConfig = Omit<Extract<BackendConfig, { type: 'kubernetes' }>, 'type' | 'name' | 'platforms'> &
  Pick<KubernetesOptions, 'name' | 'platforms'>;

/** Its library is large, and loaded on demand. */
async function openKubernetes(one: KubernetesConfig, { config, contexts }: BuildersDeps): Promise<Backend> {
  const { createKubernetesBackend } = await import('../builds/backends/kubernetes/backend.ts');
  const { jobs, callbackUrl = config.publicUrl, ...options } = one;
  const { timeoutMs } = config.builds;
  return createKubernetesBackend({ ...options, contexts, callbackUrl, timeoutMs, isOneJob: jobs === 'one' });
}

const DEFAULT_BUILDKIT = 'unix:///run/buildkit/buildkitd.sock';

/** Without a RUN, images are built in this process; real builders come first, since they can do everything. */
async function findBest(deps: BuildersDeps, signal: AbortSignal): Promise<readonly Backend[]> {
  const { log, environment, embedded } = deps;
  const onMiss = (reason: string) => log.debug({ reason }, 'a builder is not available');
  const builders = await detectBackends([detectBuildkit(), detectDocker(), detectBuildah(), detectCluster(deps)], {
    environment,
    signal,
    onMiss,
    onError: error => log.error({ err: error }, 'the detection of a builder failed'),
  });
  return [...builders, createEmbeddedBackend({ name: 'embedded', ...embedded })];
}

/** The cluster that Veneer runs in, if its service account has the rights that builds need. */
function detectCluster(deps: BuildersDeps): Detect {
  return async ({ environment, signal, onMiss }) => {
    const miss = (reason: string) => {
      onMiss(`Kubernetes: ${reason}`);
      return undefined;
    };
    if (!environment.KUBERNETES_SERVICE_HOST) return miss('Veneer does not run in a cluster');
    if (!deps.config.publicUrl) return miss('publicUrl is not set, and pods could not reach Veneer');
    const backend = await openKubernetes({ ...defaultCluster(), name: 'kubernetes' }, deps);
    try {
      await backend.listPlatforms(signal);
      return backend;
    } catch (error) {
      await backend.close();
      if (!(error instanceof BackendUnavailable)) throw error;
      return miss(error.message);
    }
  };
}

function tlsPaths({ ca, cert, key, serverName }: TlsConfig) {
  return { caPath: ca, certPath: cert, keyPath: key, serverName };
}

interface TlsConfig {
  readonly ca?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
  readonly serverName?: string | undefined;
}
