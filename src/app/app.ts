// The composition root: wires all rooms by hand, here and in app/, from the configuration.
import { Hono } from 'hono';
import { contextStorage } from 'hono/context-storage';
import type { Logger } from 'pino';
import { createAccessTokens } from '../access/access-token.ts';
import { createAccess } from '../access/granted.ts';
import type { Capabilities } from '../builds/executor/platforms.ts';
import type { Environment } from '../builds/process.ts';
import { findOwnUrl } from '../config/own-address.ts';
import type { Config } from '../config/schema.ts';
import type { Bucket } from '../content/bucket.ts';
import type { ContentKind, StoredContent } from '../content/inventory.ts';
import type { Damage } from '../content/verification.ts';
import { createEvents } from '../events/events.ts';
import type { ReadinessProblem } from '../http/admin/health.ts';
import { createRegistryEvents } from '../http/distribution/registry-events.ts';
import type { AnswersFirst } from '../http/middleware/connections.ts';
import { createMemory, maxMemoryBytes } from '../memory.ts';
import { type AccessLogOptions, createAccessLog } from '../observe/request.ts';
import { createTracing, wantsTraces } from '../observe/tracing.ts';
import { createTokenLayers } from '../pull/tokens/layers.ts';
import { createLedger } from '../pull/tokens/ledger.ts';
import { createUsage } from '../pull/tokens/usage.ts';
import { createRuleLayerStore } from '../rules/layers/layer-store.ts';
import { type Clock, createClock } from '../state/clock.ts';
import { joinDirectory, lockDirectory, takeCrashMark } from '../state/data-directory.ts';
import { createReserve } from '../state/reserve.ts';
import { createBuildRateLimiter } from '../submit/rate-limited-builds.ts';
import { normalizeName } from '../upstream/upstreams.ts';
import { type Building, createBuilding } from './building.ts';
import { createCaching } from './caching.ts';
import { createHosting } from './hosting.ts';
import { createMeasures } from './measuring.ts';
import { createObserver, withBriefErrors } from './observing.ts';
import { createPulling } from './pulling.ts';
import { openRecords, shareSecrets } from './recording.ts';
import { createRoutes } from './routes.ts';
import { createRuledPulls, createRuling, type Reread } from './ruling.ts';
import { createScanning } from './scanning.ts';
import {
  createOpenContent,
  createReportDamage,
  createScrubbing,
  openContentBucket,
  prepareStores,
} from './stored-content.ts';
import { createSweeping } from './sweeping.ts';
import { openCredentialPassThrough, openOwnCredentials, type Patience } from './upstreams.ts';
import type { Worker } from './worker.ts';

export interface App {
  readonly fetch: Hono['fetch'];
  /** For a node:http server: answers some requests without the routes, with the same response. */
  readonly ready: AnswersFirst | undefined;
  /** All routes, for tests that enumerate them. */
  readonly routes: Hono['routes'];
  /** Reloads the rules with all their layers; errors are logged, and the active rules stay. */
  reloadRules(): Promise<void>;
  /**
   * Interrupts builds, which are resumed at the next start; waiting clients are asked to retry. Call it once no new connections are
   * accepted.
   */
  drain(): Promise<void>;
  /** Releases everything the app holds: call it when no request is in progress any more. */
  close(): Promise<void>;
}

export interface AppDeps {
  readonly config: Config;
  readonly log: Logger;
  /** Default: lines of `log`, as JSON. */
  readonly accessLog?: AccessLogOptions | undefined;
  readonly version: string;
  /** The version that this Veneer was built from. */
  readonly commit?: string | undefined;
  /** The path of the configuration file; absent where there is none. */
  readonly configFile?: string | undefined;
  readonly now?: () => Date;
  /** Monotonic milliseconds. Default: this machine's; with a given clock, derived from that. */
  readonly uptimeMs?: () => number;
  /** The memory available to the process. */
  readonly memoryLimitBytes?: number | undefined;
  readonly dockerConfigPath?: string | undefined;
  /** Timeouts and retries for upstreams; default: those for production. */
  readonly patience?: Partial<Patience>;
  /** The environment in which builders are detected, and of which they get a part; its OpenTelemetry variables enable traces. */
  readonly environment?: Environment;
  /** Our host with its port, as reachable from this machine; undefined until we listen. Default: as configured. */
  readonly findListenHost?: () => string | undefined;
  /** Resolves when requests are served: long tasks that are not needed for that start then. Default: at once. */
  readonly listening?: Promise<void> | undefined;
  /** Absent: the configuration is not watched for changes. */
  readonly reread?: Reread | undefined;
  /** The interval between checks for changed rules. */
  readonly checkEveryMs?: number | undefined;
  readonly everySweepMs?: number | undefined;
  /** Absent: this is the only process of the service. */
  readonly worker?: Worker | undefined;
}

/** If a start fails, everything created so far is released: nothing keeps the data directory locked. */
export async function createApp(deps: AppDeps): Promise<App> {
  await using opened = new AsyncDisposableStack();
  const { app, ...handles } = await openAll(deps, opened);
  // From here on the caller closes everything, in reverse order, even if closing one part fails.
  const resources = opened.move();
  return { fetch: app.fetch, routes: app.routes, ...handles, close: () => resources.disposeAsync() };
}

async function openAll(
  { config, log: givenLog, worker, ...deps }: AppDeps,
  opened: AsyncDisposableStack,
): Promise<Pick<App, 'ready' | 'reloadRules' | 'drain'> & { readonly app: Hono }> {
  const log = withBriefErrors(givenLog);
  const measures = createMeasures({
    ...{ config, version: deps.version, commit: deps.commit ?? 'unknown' },
    peers: worker?.peers,
  });
  if (measures) opened.defer(() => measures.close());
  const { now: systemTime = () => new Date() } = deps;
  const startedAt = systemTime();
  const tracing = await openTracing(deps, log);
  if (tracing) opened.defer(() => tracing.close());
  const observer = createObserver(createAccessLog(log, deps.accessLog), {
    ...{ measures, tracing },
    upstreams: new Set([...Object.keys(config.upstreams), config.defaultUpstream].map(normalizeName)),
    now: systemTime,
  });
  const closing = <T extends { close(): unknown }>(resource: T): T => {
    opened.defer(async () => void (await resource.close()));
    return resource;
  };
  const { count = 1 } = worker ?? {};
  const memoryLimitBytes = (deps.memoryLimitBytes ?? Number.POSITIVE_INFINITY) / count;
  const spareBytes = maxMemoryBytes(memoryLimitBytes);
  const memoryBytes = Math.min(Math.floor(config.memoryBytes / count), spareBytes);
  if (memoryBytes < config.memoryBytes / count)
    log.info({ memoryBytes, memoryLimitBytes }, 'caches get less memory than configured: the process has too little');
  const memory = createMemory(memoryBytes);
  const lock = worker ? joinDirectory(config.dataDir) : lockDirectory(config.dataDir);
  opened.defer(() => lock.release());
  const endedByItself = takeCrashMark(config.dataDir);
  if (endedByItself) log.error('the previous process crashed');
  const reserve = closing(createReserve(config.dataDir));
  const isFirst = worker === undefined || worker.number === 1;
  const clock = closing(await openClock({ config, log, ...deps, isKept: isFirst }));
  const { now } = clock;
  const mayDelete = () => clock.deleteBy() !== undefined;
  const recording = closing(await openRecords({ config, log, memory, now, reserve, worker }));
  const { records, ownRecords, reasonToKeep, checkReady, listFaults } = recording;
  // Before content and records use its disk space.
  const reserved = reserve.restore();
  const prepared = prepareStores(config, worker);
  opened.defer(async () => void (await Promise.allSettled(prepared.values())));
  if (config.state.postgres) await shareSecrets({ records, dataDir: config.dataDir });
  const access = closing(
    await createAccess({
      options: config.access,
      listenHost: config.listen.host,
      publicHost: config.publicUrl?.hostname,
      records,
      memory,
      dataDir: config.dataDir,
      onFault: fault =>
        log.error({ reason: fault.message }, 'the file of users cannot be used: its last valid state stays in use'),
      onIssuerFault: reason =>
        log.warn({ issuer: config.access?.oidc?.issuer, reason }, 'the keys of the OIDC issuer cannot be fetched'),
      now,
    }),
  );
  log.info(access.summary);
  const events = closing(createEvents({ endpoints: config.events.endpoints, records, log }));
  const registryEvents = createRegistryEvents(events, config.publicUrl);
  const reportDamage = createReportDamage({ log, events: registryEvents, onDamaged: measures?.onDamaged });
  const reportLost = (of: ContentKind) => (damage: Damage) =>
    reportDamage({ of, ...damage, repositories: [], isRestored: false });
  const bucket = await openContentBucket(config, log, measures?.onThrottled);
  if (bucket) opened.defer(() => bucket.close());
  const caching = closing(
    await createCaching({
      ...{ config, log, clock, memory, reportDamage, worker, prepared, listening: deps.listening },
      records: recording.cacheRecords,
      shared: bucket && config.content.s3?.upstreams ? { bucket, records } : undefined,
      onEvicted: measures?.onEvicted,
    }),
  );
  const kept: StoredContent[] = [];
  const openContent = createOpenContent({
    ...{ config, log, memory, records, worker, prepared },
    onOpened: stored => kept.push(stored),
    remote: bucket && { bucket, cache: caching.content, noteVerified: caching.noteVerified },
  });
  const hosting = closing(
    await createHosting({
      ...{ config, records, memory, clock, reasonToKeep, reportDamage, openContent, worker },
      onChange: registryEvents.changed,
    }),
  );
  const { ttlMs, workflow, layers: quota } = config.tokens;
  const storedTokens = await openContent('tokens', { onDamaged: reportLost('tokens') });
  const tokenLayers = closing(
    await createTokenLayers({
      ...{ stored: storedTokens, directory: storedTokens.directory, records, now, mayDelete, quota },
    }),
  );
  const ledger = createLedger({ records, memory, layers: tokenLayers, now, ttlMs, workflow });
  const { dockerConfigPath, patience } = deps;
  const { findListenHost = () => (config.listen.port === 0 ? undefined : findOwnUrl(config)?.host) } = deps;
  const passThrough = await openCredentialPassThrough(config, now);
  const own = config.access && (await openOwnCredentials({ config, log, records, now }));
  const storedRules = await openContent('rules', { onDamaged: reportLost('rules') });
  const layerStore = closing(
    await createRuleLayerStore({ stored: storedRules, directory: storedRules.directory, records, now, mayDelete }),
  );
  // Pulls build what is missing, and builds read what is pulled.
  const opening = Promise.withResolvers<Building>();
  const pulling = closing(
    createPulling({
      ...{
        config,
        log,
        now,
        records,
        memory,
        tokenLayers,
        caching,
        layerStore,
        dockerConfigPath,
        patience,
        observer,
      },
      hosted: hosting.registries,
      ...{ scopes: passThrough?.scopes, acting: own?.acting, findListenHost, building: opening.promise },
    }),
  );

  const { reread, checkEveryMs } = deps;
  const ruling = closing(
    await createRuling({
      ...{ config, log, now, records: ownRecords, layerStore, reread, checkEveryMs },
      describeRemote: pulling.describeRemote,
    }),
  );
  const ruledPulls = createRuledPulls({
    ...{ config, records, memory, now, pulling, rules: ruling.rules },
    leaseRuleLayers: layerStore.lease,
  });

  const buildRate = createBuildRateLimiter(config.builds.rate, { records, now });
  const building = closing(
    await createBuilding({
      ...{ config, log, now, mayDelete, records, memory, pulling },
      onDamagedContext: reportLost('contexts'),
      openContent,
      hosted: hosting.hosted,
      accessTokens: config.access && createAccessTokens({ records, now }),
      environment: deps.environment ?? {},
      ...{ findListenHost, listening: deps.listening },
      onEnded(build) {
        measures?.onBuildEnded(build);
        registryEvents.built(build);
      },
      runAs: own?.runAs,
      prepareBuild: observer.prepareBuild,
      endedByItself,
      worker,
      buildRate,
    }),
  );
  opening.resolve(building);
  measures?.watch({ builds: building.builds, events, usage: caching.usage });

  const usage = closing(createUsage({ records, now, log }));
  const scans = closing(
    await createScanning({
      ...{ config, log, now, records, ledger, builds: building.builds },
      ...{ origins: pulling.origins, withToken: pulling.withToken },
      environment: deps.environment ?? {},
      onEnded: ({ platforms }) => usage.count('scans', { caller: '', platform: platforms.join(',') }),
    }),
  );

  // What is in a bucket is read when it is needed, unless configured: reading all of it costs money, and the service checks it by itself.
  const inBucket = bucket && config.scrub.isOfBucket ? kept : [];
  const local = bucket ? [caching.stored] : [caching.stored, ...kept];

  let isDraining = false;

  const app = new Hono();
  // Events name the caller, and builds started by pulls are rate-limited per caller; without either, requests do not pay for the context.
  if (config.events.endpoints.length > 0 || config.builds.recipes.length > 0) app.use(contextStorage());
  const ready = createRoutes(app, {
    ...deps,
    ...{
      config,
      log,
      spareBytes,
      startedAt,
      now,
      ledger,
      records,
      readVersion: recording.version,
      memory,
      access,
      registryEvents,
      building,
      scans,
      usage,
      buildRate,
      ruledPulls,
      observer,
      measures,
    },
    ...{
      hosted: hosting.hosted,
      collector: hosting.collector,
      cacheAdmin: caching.createAdmin([...local, ...inBucket]),
      ...pulling,
    },
    rules: ruling.rules,
    sealed: passThrough?.sealed,
    own,
    nameRegistry: registry => pulling.upstreams.get(registry).name,
    listNotes: async () => [clock.findJump(), await reserve.findNote()].filter(note => note !== undefined),
    ...{ checkReady, listFaults },
    listProblems: async () => [
      ...(isDraining ? [STOPPING] : []),
      ...(await listBucketProblems(bucket)),
      ...observer.listBroken().map(upstreamProblem),
      ...building.platforms
        .listKnown()
        .filter(({ fault }) => fault !== undefined)
        .map(builderProblem),
    ],
  });

  const scrubbing = isFirst && createScrubbing({ config, log, records: ownRecords, stores: local });
  if (scrubbing) closing(scrubbing);
  const shared = inBucket.length > 0 && createScrubbing({ config, log, records, stores: inBucket, areInBucket: true });
  if (shared) closing(shared);
  closing(
    createSweeping({
      ...{ config, log, clock, reasonToKeep, collector: hosting.collector },
      records: { ...records, sweep: recording.sweep },
      everySweepMs: deps.everySweepMs,
      sweeps: [hosting.sweep, building.builds.sweep, building.sweepBuilders, caching.sweep, ruling.sweep],
      sharedSweeps: [
        tokenLayers.sweep,
        hosting.sweepShared,
        ...(bucket ? [() => bucket.abortUploads(new Date(now().getTime() - MAX_UPLOAD_MS))] : []),
      ],
    }),
  );
  await reserved;
  return {
    app,
    ready,
    reloadRules: ruling.reload,
    drain() {
      isDraining = true;
      return building.builds.close();
    },
  };
}

const STOPPING: ReadinessProblem = { part: 'service', status: 'DOWN', fault: 'nobody', reason: 'it is stopping' };

/** How long parts of an upload are left alone: it may be under way. */
const MAX_UPLOAD_MS = 24 * 3_600_000;

async function listBucketProblems(bucket: Bucket | undefined): Promise<readonly ReadinessProblem[]> {
  const reason = await bucket?.findFault();
  return reason === undefined ? [] : [{ part: 'object store', status: 'DOWN', fault: 'operator', reason }];
}

/** The cause is only in the log: it may contain what only operators may know. */
function upstreamProblem(name: string): ReadinessProblem {
  const reason = 'calls are paused after repeated failures (circuit breaker open): cached content is served';
  return { part: `upstream ${name}`, status: 'DEGRADED', fault: 'upstream', reason };
}

function builderProblem({ backend }: Capabilities): ReadinessProblem {
  const reason = 'it does not answer: builds for its platforms wait or fail';
  return { part: `builder ${backend.name}`, status: 'DEGRADED', fault: 'builder', reason };
}

/** Undefined unless the environment enables traces. */
async function openTracing({ environment = {}, version }: Pick<AppDeps, 'environment' | 'version'>, log: Logger) {
  if (!wantsTraces(environment)) return undefined;
  return createTracing({ env: environment, version, warn: fault => log.warn(fault) });
}

function openClock({
  config,
  log,
  now,
  uptimeMs = now && (() => now().getTime()),
  isKept,
}: AppDeps & { readonly isKept: boolean }): Promise<Clock> {
  return createClock({
    ...{ directory: config.dataDir, now, uptimeMs, isKept },
    onJump: jump => log.warn(jump),
    onTrust: () => log.info('the clock is trusted again: expired data is deleted as usual'),
  });
}
