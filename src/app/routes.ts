// All routes, in matching order.
import type { Context, Hono } from 'hono';
import type { Logger } from 'pino';
import { type Access, subjectOf } from '../access/access.ts';
import { createAddressTest, createForwarding } from '../access/address.ts';
import { type CallerRateLimiter, createCallerRateLimiter } from '../access/rate-limiter.ts';
import type { SealedCredentials } from '../access/sealed-credentials.ts';
import type { CacheAdmin } from '../cache/admin/cache-admin.ts';
import type { Config } from '../config/schema.ts';
import type { GarbageCollector } from '../hosted/gc/collector.ts';
import type { HostedRepositories } from '../hosted/repositories.ts';
import { createCacheApi } from '../http/admin/cache-api.ts';
import { createCollectApi } from '../http/admin/collect-api.ts';
import {
  type CheckCondition,
  createCheckCondition,
  createHealth,
  createMetricsApi,
  type ReadinessProblem,
} from '../http/admin/health.ts';
import { createRegistriesApi } from '../http/admin/registries-api.ts';
import { createRulesApi } from '../http/admin/rules-api.ts';
import { createBuildPages } from '../http/console/builds.ts';
import { createFormGuard } from '../http/console/forms.ts';
import { createImagePages } from '../http/console/image.ts';
import { createAssets, createShowError, createShowPage, type ShowPage } from '../http/console/layout.ts';
import { createArrival, createFindSession } from '../http/console/login.ts';
import { createViews } from '../http/console/views.ts';
import { createAdmission, createFindToken, type FindToken } from '../http/distribution/admission.ts';
import { createCredentialPassThrough } from '../http/distribution/credential-pass-through.ts';
import { createNamespaceEcho, createStrict, STRICT_PATHS } from '../http/distribution/mirror.ts';
import { createPush } from '../http/distribution/push.ts';
import {
  createReadyManifests,
  type ReadyManifests,
  weighKnown,
  weighReady,
} from '../http/distribution/ready-manifests.ts';
import { createRegistry } from '../http/distribution/registry.ts';
import type { RegistryEvents } from '../http/distribution/registry-events.ts';
import { createTokenEndpoint } from '../http/distribution/token-endpoint.ts';
import { callerName, clientAddress, createAuthentication } from '../http/middleware/authentication.ts';
import { createBodyBudget } from '../http/middleware/body-memory.ts';
import { createBodySender } from '../http/middleware/body-sender.ts';
import { createErrorHandler, createNotFound } from '../http/middleware/errors.ts';
import { createInertAnswers, createPageGuard } from '../http/middleware/pages.ts';
import { createRequestLog, type FindAddress } from '../http/middleware/request-log.ts';
import { createOpenApi } from '../http/openapi.ts';
import { createAugmentApi, createFindSubmission } from '../http/wave/augment-api.ts';
import { createBuildsApi, createContextsApi, createGetBuild } from '../http/wave/builds-api.ts';
import { createInspectApi } from '../http/wave/inspect.ts';
import { createScansApi } from '../http/wave/scans-api.ts';
import { createStatusWait } from '../http/wave/status-wait.ts';
import type { SubmitLimits } from '../http/wave/submit-schema.ts';
import { createTokensApi } from '../http/wave/tokens-api.ts';
import { createPullCount, createUsageApi } from '../http/wave/usage-api.ts';
import { createValidateCreds } from '../http/wave/validate-creds.ts';
import type { Memory } from '../memory.ts';
import { RegistryError } from '../oci/errors.ts';
import { MAX_MANIFEST_BYTES } from '../oci/manifest.ts';
import { originName } from '../pull/origin.ts';
import { awaitBuild, waitUntil } from '../pull/recipes/wait-for-build.ts';
import { createExplain, type Explain } from '../pull/rules/explain.ts';
import type { TokenLedger } from '../pull/tokens/ledger.ts';
import type { Usage } from '../pull/tokens/usage.ts';
import { listRules } from '../rules/explanation.ts';
import type { RuleReloader } from '../rules/reload/reloader.ts';
import { findRefusal, hasScanEnded, type ScanDemand } from '../scans/record.ts';
import type { Scans } from '../scans/scans.ts';
import type { RecordStore } from '../state/store.ts';
import { createSourceRights } from '../submit/changes.ts';
import { createRateLimitedBuilds } from '../submit/rate-limited-builds.ts';
import { createSubmit } from '../submit/submit.ts';
import { normalizeName } from '../upstream/upstreams.ts';
import { listCallbackUrls } from './builder-access.ts';
import type { Building } from './building.ts';
import { addConsole } from './console.ts';
import type { Measures } from './measuring.ts';
import type { Observer } from './observing.ts';
import type { Pulling } from './pulling.ts';
import type { RuledPulls } from './ruling.ts';
import type { OwnCredentials } from './upstreams.ts';

type PullingParts = Pick<
  Pulling,
  | 'origins'
  | 'upstreams'
  | 'logAddress'
  | 'withToken'
  | 'prepare'
  | 'inspect'
  | 'describeChanges'
  | 'openLayer'
  | 'augmentations'
>;

interface RoutesDeps extends PullingParts {
  readonly config: Config;
  readonly log: Logger;
  /** The memory limits for bodies in progress, by kind. */
  readonly spareBytes: number;
  readonly version: string;
  readonly commit?: string | undefined;
  /** Absent: there is none. */
  readonly configFile?: string | undefined;
  readonly startedAt: Date;
  readonly now: () => Date;
  readonly uptimeMs?: (() => number) | undefined;
  readonly access: Access;
  readonly records: RecordStore;
  /** Changes whenever any record does: see RecordStore. */
  readonly readVersion: () => number | undefined;
  readonly memory: Memory;
  readonly hosted: HostedRepositories;
  readonly collector: GarbageCollector;
  readonly cacheAdmin: CacheAdmin;
  readonly ledger: TokenLedger;
  readonly building: Building;
  readonly scans: Scans;
  readonly usage: Usage;
  readonly buildRate: CallerRateLimiter;
  readonly registryEvents: RegistryEvents;
  readonly rules: RuleReloader;
  readonly ruledPulls: RuledPulls;
  readonly checkReady: () => Promise<void>;
  readonly listNotes: () => Promise<readonly string[]>;
  readonly listFaults: () => readonly string[];
  readonly listProblems: () => Promise<readonly ReadinessProblem[]>;
  /** Where upstreams receive clients' credentials. */
  readonly sealed?: SealedCredentials | undefined;
  /** The registry credentials that callers have stored; absent where callers have no names. */
  readonly own?: OwnCredentials | undefined;
  readonly nameRegistry: (registry: string) => string;
  readonly observer: Observer;
  /** Undefined: metrics are off. */
  readonly measures: Measures | undefined;
}

/** Returns a function that answers some requests before the routes; undefined if none can be. */
export function createRoutes(app: Hono, deps: RoutesDeps): ReadyManifests | undefined {
  const { config, spareBytes, version, commit = 'unknown', observer, log } = deps;
  const check = createCheckCondition(deps);
  app.use('/v2/:name{.+}/blobs/:digest', createBodySender(log, { spareBytes }));
  const { findClient: findAddress } = createForwarding(config.trustedProxies);
  app.use(createRequestLog({ ...observer, findAddress }));
  app.use(createInertAnswers());
  addMirror(app, config);
  app.use(createPageGuard({ ...describeNames(config), isOpen: deps.access.isOpen }));
  const show = createShowPage({ version, isOn: config.console });
  const showError = createShowError(show);
  app.onError(createErrorHandler(log, showError));
  app.notFound(createNotFound(app, showError));
  app.route(
    '/',
    createHealth({
      ...{ version, commit, check },
      listBuilders: deps.building.platforms.list,
    }),
  );
  app.route('/', createOpenApi({ limits: submitLimits(config), version }));
  app.route('/', createAssets());
  app.route('/', createContextsApi(deps.building.buildContexts));
  addTokenEndpoint(app, deps);
  addAuthentication(app, deps);
  addPageAuthentication(app, deps);
  addOwnCredentials(app, deps);
  const findToken = createFindToken(deps);
  const ready = createReady(deps, findAddress);
  addRegistry(app, { ...deps, findToken, ready });
  const shared = addAugmentApi(app, { ...deps, findToken });
  const explain = addAdminApis(app, deps);
  addPages(app, { ...deps, ...shared, explain, check, show });
  return ready;
}

/** Undefined where upstreams receive the credentials of clients, or a webhook receives every pull. */
function createReady(deps: RoutesDeps, findAddress: FindAddress): ReadyManifests | undefined {
  const { config, access, rules, memory, uptimeMs, observer } = deps;
  const hearsPulls = config.events.endpoints.some(({ on }) => on.includes('pull'));
  if (deps.sealed || hearsPulls) return undefined;
  return createReadyManifests({
    ...{ access, rules, uptimeMs, version: deps.readVersion, findAddress },
    ...{ onBegin: observer.onBegin, onEnd: observer.onEnd },
    ready: memory.openCache({ weigh: weighReady }),
    // As createCallerRateLimiter does.
    countsPulls: ({ kind }) => kind !== 'local' && Object.values(config.pulls.rate).some(rate => rate !== undefined),
    heads: memory.openCache({ weigh: weighKnown }),
    keepAliveMs: config.limits.keepAliveMs,
  });
}

/** The names by which clients reach us. */
function describeNames(config: Config) {
  const {
    publicUrl,
    hosts,
    builds: { registryHost },
  } = config;
  const ofBuilders = registryHost === undefined ? [] : [new URL(`http://${registryHost}`).hostname];
  const ofPods = listCallbackUrls(config).map(({ hostname }) => hostname);
  return { publicUrl, names: [...hosts, ...ofBuilders, ...ofPods], isClosed: hosts.length > 0 };
}

/** Additions for clients of a mirror. */
function addMirror(app: Hono, { defaultUpstream, upstreams }: Config): void {
  app.use('/v2/*', createNamespaceEcho());
  const name = normalizeName(defaultUpstream);
  const isStrict = Object.entries(upstreams).some(([key, entry]) => normalizeName(key) === name && entry.strict);
  if (isStrict) for (const path of STRICT_PATHS) app.use(path, createStrict(name));
}

/** Issues tokens for our users and access tokens, or with credentials for an upstream: the configuration never has both. */
function addTokenEndpoint(app: Hono, { access, sealed, origins }: RoutesDeps): void {
  const addressOf = clientAddress;
  if (access.bearer) {
    const fullName = (name: string) => (name.startsWith('wt/') ? name : originName(origins.locateName(name)));
    app.route('/', createTokenEndpoint({ bearer: access.bearer, normalizeName: fullName, addressOf }));
  }
  if (sealed) {
    app.route('/', createTokenEndpoint({ bearer: sealed, normalizeName: name => name, addressOf }));
  }
}

function addAuthentication(app: Hono, { config, access }: RoutesDeps): void {
  const callers = { access, publicUrl: config.publicUrl?.href, addressOf: clientAddress };
  const admin = ['/v1/hosted/*', '/v1/cache/*', '/v1/rules', '/v1/rules/*', '/metrics'];
  for (const path of ['/v2', '/v2/*', ...admin, '/v1/registries', '/v1/registries/*', '/v1/tokens']) {
    app.use(path, createAuthentication(callers));
  }
  for (const path of ['/v1alpha1/*', '/v1alpha2/*', '/container-token', '/container-token/*', ...MORE]) {
    app.use(path, createAuthentication({ ...callers, toleratesBearers: true }));
  }
}

const MORE = ['/v1alpha3/*', '/validate-creds'];

/** Authentication of pages: by the session of the browser. */
function addPageAuthentication(app: Hono, { config, access }: RoutesDeps): void {
  const { publicUrl } = config;
  const findSession = createFindSession(access, publicUrl?.href);
  const callers = { access, publicUrl: publicUrl?.href, addressOf: clientAddress, toleratesBearers: true, findSession };
  for (const path of PAGES) {
    app.use(path, createFormGuard(publicUrl));
    if (access.sessions) app.use(path, createArrival());
    app.use(path, createAuthentication(callers));
  }
}

const PAGES = ['/console/*', '/view/*'];

const TOKEN_PATH = /^\/v2\/wt\/([0-9a-f]{12,24})\//;

/** Requests read upstreams with the registry credentials stored by their caller; a token, with those of the caller it was issued to. */
function addOwnCredentials(app: Hono, { own, ledger }: RoutesDeps): void {
  if (!own) return;
  const ownerOf = async (c: Context) => {
    const token = TOKEN_PATH.exec(c.req.path)?.[1];
    return token === undefined ? callerName(c) : (await ledger.find(token))?.caller;
  };
  for (const path of ['/v2/*', '/v1/rules/*', ...PAGES])
    app.use(path, async (c, next) => own.runAs((await ownerOf(c)) ?? '', next));
}

function addRegistry(
  app: Hono,
  deps: RoutesDeps & { readonly findToken: FindToken; readonly ready: ReadyManifests | undefined },
): void {
  const { config, origins, logAddress, findToken, withToken, hosted, registryEvents, building } = deps;
  const { builds } = building;
  const awaitBuilt = async (c: Context, id: string) => {
    const holdMs = config.builds.hold.tokenMs;
    const waiting = awaitBuild(builds, id, { holdMs, signal: c.req.raw.signal, logAddress });
    const { digest } = await deps.observer.timeWait(waiting);
    if (digest === undefined) throw new Error(`the build ${id} has succeeded without a digest`);
    return digest;
  };
  const passed = deps.sealed && createCredentialPassThrough({ sealed: deps.sealed, publicUrl: config.publicUrl?.href });
  if (passed) app.use('/v2/*', passed.challenge);
  const admission = createAdmission({
    origins,
    findToken,
    awaitBuilt,
    awaitScanned: (c, demand) => awaitScanned(demand, c.req.raw.signal, deps),
    getCredentials: passed?.get,
    withRules: deps.ruledPulls.withRules,
    withToken,
  });
  app.use('/v2/wt/*', createPullCount(deps.usage));
  const counted = { what: 'pulls', units: 'tags', key: 'pulls.rate' };
  const pullLimiter = createCallerRateLimiter(config.pulls.rate, counted, deps);
  const events = config.events.endpoints.length > 0 ? registryEvents : undefined;
  const redirects = createRedirects(config);
  const { listNames } = hosted;
  app.route('/', createRegistry({ admission, events, pullLimiter, ready: deps.ready, redirects, listNames }));
  app.route('/', createPush({ admission, hosted, bodies: createBodyBudget(MAX_MANIFEST_BYTES, deps.spareBytes) }));
}

function createRedirects({ content: { s3 } }: Config) {
  if (!s3?.redirect) return undefined;
  const { networks, minBytes } = s3.redirect;
  const isNear = createAddressTest(networks);
  return { isFor: (c: Context) => isNear(clientAddress(c)), minBytes };
}

/** Throws DENIED for an image that its scan refuses, UNAVAILABLE if the scan takes longer than pulls may wait. */
async function awaitScanned(
  demand: ScanDemand,
  signal: AbortSignal,
  { config, scans }: Pick<RoutesDeps, 'config' | 'scans'>,
): Promise<void> {
  const late = () =>
    new RegistryError('UNAVAILABLE', `the image is still being scanned (${demand.id}): pull again`, {
      retryAfterSeconds: 15,
    });
  const holdMs = config.builds.hold.tokenMs;
  const scan = await waitUntil({ holdMs, signal }, until => scans.wait(demand.id, until), late);
  if (scan && !hasScanEnded(scan)) throw late();
  const refusal = findRefusal(demand, scan);
  if (refusal !== undefined) throw new RegistryError('DENIED', refusal);
}

/** Returns what the console needs of it. */
function addAdminApis(app: Hono, deps: RoutesDeps): Explain {
  const { config, log, origins, augmentations, rules, collector, cacheAdmin: admin, measures } = deps;
  if (measures) app.route('/', createMetricsApi({ ...measures, ...config.metrics }));
  if (config.hosted.prefixes.length > 0) app.route('/', createCollectApi({ collector, log }));
  app.route('/', createCacheApi({ admin, log }));
  const explain = createExplain({ origins, augmentations, rules, derivedDigests: deps.ruledPulls.derivedDigests });
  const requireSources = createSourceRights(deps);
  app.route('/', createRulesApi({ explain, listRules: () => listRules(rules), origins, requireSources }));
  return explain;
}

function addPages(app: Hono, deps: RoutesDeps & PageParts): void {
  const { config, version, commit = 'unknown', startedAt, configFile, building, observer } = deps;
  const { builds, platforms } = building;
  const publicUrl = config.publicUrl?.href;
  app.route('/', createBuildPages({ ...deps, builds, publicUrl }));
  app.route('/', createImagePages({ ...deps, publicUrl, isOn: config.console }));
  app.route('/', createViews({ ...deps, publicUrl }));
  addConsole(app, {
    ...deps,
    publicUrl,
    builds,
    sessions: deps.access.sessions,
    started: { version, commit, startedAt, configFile },
    activity: observer.activity,
    listBuilders: platforms.list,
    listRules: () => listRules(deps.rules),
  });
}

interface PageParts extends ReturnType<typeof addAugmentApi> {
  readonly explain: Explain;
  readonly check: CheckCondition;
  readonly show: ShowPage;
}

/** Returns what the console needs of it. */
function addAugmentApi(app: Hono, deps: RoutesDeps & { readonly findToken: FindToken }) {
  const { config, log, origins, ledger, findToken, inspect, building, scans, usage, ruledPulls } = deps;
  const requireSources = createSourceRights(deps);
  const { requestBodyBytes } = config.limits;
  const body = {
    maxBytes: requestBodyBytes,
    bodies: createBodyBudget(requestBodyBytes, deps.spareBytes),
    runAs: deps.own?.runAs,
  };
  const publicUrl = config.publicUrl?.href;
  const { builds, plan, listBases } = building;
  const limitedBuilds = createRateLimitedBuilds(
    builds,
    deps.buildRate,
    ({ caller }, { kind, changes, platforms = [] }) => {
      const metric = kind === 'copy' && !changes ? 'mirrors' : 'builds';
      usage.count(metric, { caller: subjectOf(caller), platform: platforms.join(',') });
    },
  );
  const { repository, cacheRepository, requests, timeoutMs } = config.builds;
  const countedTokens = { what: 'tokens', units: 'tokens', key: 'tokens.rate' };
  const tokenLimiter = createCallerRateLimiter(config.tokens.rate, countedTokens, deps);
  const submit = createSubmit({
    ...deps,
    ...{ requireSources, plan, listBases, builds: limitedBuilds, findRuled: ruledPulls.findRuled },
    tokenLimiter,
    options: {
      ...{ attestations: config.attestations, repository, cacheRepository, allowance: { ...requests, timeoutMs } },
      convertsToSif: config.builds.sif.command !== undefined,
      ...config.limits,
    },
  });
  const limits = submitLimits(config);
  const statusWait = createStatusWait({ maxMs: config.limits.statusWaitMs, maxWaiting: config.limits.statusWaits });
  const findSubmission = createFindSubmission({ builds, scans, findToken });
  const getBuild = createGetBuild(builds);
  const shared = { builds, scans, origins, publicUrl, statusWait, findSubmission, getBuild };
  app.route('/', createAugmentApi({ ...shared, submit, ledger, body, limits }));
  app.route('/', createBuildsApi({ ...shared, limitedBuilds, log }));
  app.route('/', createScansApi(scans));
  app.route('/', createUsageApi(usage));
  app.route('/', createTokensApi(ledger));
  app.route(
    '/',
    createValidateCreds({
      checkCredentials: deps.upstreams.checkCredentials,
      consume: requester => tokenLimiter.consume(requester, 1),
      body,
    }),
  );
  app.route('/', createInspectApi({ inspect, requireSources, body }));
  const { own, nameRegistry } = deps;
  app.route('/', createRegistriesApi({ credentials: own?.stored, nameRegistry, body }));
  return { body, findSubmission, getBuild, limitedBuilds, limits, requireSources, submit };
}

function submitLimits({ limits, builds }: Config): SubmitLimits {
  return {
    maxLocationCharacters: limits.layerLocation,
    maxIncludes: limits.containerIncludes,
    maxContainerFileCharacters: builds.limits.containerFileBytes,
  };
}
