// Handles a submit request: issues a token for an image once everything that needs a network is settled, and starts a build or copy where
// the image has to be made first.
import { type Requester, subjectOf } from '../access/access.ts';
import { accountOf, type CallerRateLimiter } from '../access/rate-limiter.ts';
import { createWork, type Work } from '../augment/budget.ts';
import type { Submitted } from '../builds/builds.ts';
import type { BuildRecord } from '../builds/record.ts';
import { parseReference } from '../oci/reference.ts';
import { imageName, type Origins } from '../pull/origin.ts';
import type { PlatformMoves, Prepare } from '../pull/prepare.ts';
import type { TokenLedger } from '../pull/tokens/ledger.ts';
import type { NewTokenRecord, ShownRequest, TokenRecord } from '../pull/tokens/record.ts';
import type { ScanDemand, ScanRecord } from '../scans/record.ts';
import type { Scans } from '../scans/scans.ts';
import { createPlanBuild, type PlanBuildDeps, type Planned } from './build.ts';
import { checkMediaTypes, findFusionVersion, repositoriesOf, toChanges } from './changes.ts';
import { createPlanCopy } from './copy.ts';
import { ApiError, toApiError, toSourceError } from './errors.ts';
import type { RateLimitedBuilds } from './rate-limited-builds.ts';
import type { ContainerConfig, RequestedLayer, SubmitRequest } from './request.ts';
import type { FindRuled, RequestedImage, RuledChanges } from './rules.ts';
import { createTargets, type TargetsDeps } from './target.ts';

/** A token's record, and the build that makes its image, if one does. */
export interface Submission {
  readonly record: TokenRecord;
  /** Undefined where nothing is built, or where the build's record was deleted. */
  readonly build?: BuildRecord | undefined;
  /** Undefined where none is wanted, or its record was deleted. */
  readonly scan?: ScanRecord | undefined;
  /** Whether it was built before. */
  readonly isCached?: boolean | undefined;
  /** Warnings for the caller, one sentence each. */
  readonly warnings?: readonly string[] | undefined;
  /** Layers that were moved to follow the image's links. */
  readonly moved?: readonly PlatformMoves[] | undefined;
}

/** The signal aborts the work. Throws ApiError or RegistryError, with messages for the requester. */
export type Submit = (requester: Requester, request: SubmitRequest, signal: AbortSignal) => Promise<Submission>;

interface SubmitDeps
  extends Pick<TargetsDeps, 'access'>,
    Pick<PlanBuildDeps, 'requireSources' | 'describeChanges' | 'openLayer' | 'plan' | 'listBases'> {
  readonly origins: Origins;
  readonly prepare: Prepare;
  readonly builds: RateLimitedBuilds;
  readonly ledger: Pick<TokenLedger, 'issue' | 'keepLayers'>;
  readonly findRuled: FindRuled;
  readonly scans: Pick<Scans, 'isAvailable' | 'open' | 'start'>;
  /** For tokens: a large request counts as several. */
  readonly tokenLimiter: CallerRateLimiter;
  readonly options: SubmitOptions;
}

interface SubmitOptions extends Pick<TargetsDeps, 'repository' | 'cacheRepository'>, WorkLimits {
  /** What to do with attestations in a changed image. */
  readonly attestations: 'drop' | 'keep';
  readonly allowance: PlanBuildDeps['allowance'];
  /** Whether images can be converted for Singularity. */
  readonly convertsToSif: boolean;
}

interface WorkLimits {
  readonly requestTimeMs: number;
  /** For all layers of a request together. */
  readonly unpackedRequestBytes: number;
}

/** An image as requested. */
interface AskedImage {
  readonly image: string;
  readonly work: Work;
}

const NO_RULES: RuledChanges = { ruleSteps: [], ruleLayerSources: [] };

export function createSubmit(deps: SubmitDeps): Submit {
  const { origins, prepare, requireSources, builds, ledger, findRuled, scans, tokenLimiter, options } = deps;
  const { attestations, allowance, repository, cacheRepository } = options;
  const targets = createTargets({ origins, access: deps.access, repository, cacheRepository });
  const planBuild = createPlanBuild({ ...deps, targets, allowance });
  const planCopy = createPlanCopy({ origins, targets, prepare, requireSources, attestations });

  async function submitImage(requester: Requester, request: SubmitRequest, asked: AskedImage): Promise<Submission> {
    const { storedLayers, tag, warnings, moved, ...prepared } = await prepareImage(requester, request, asked);
    checkMediaTypes(request, prepared.augmentation.layers);
    await ledger.keepLayers(storedLayers, accountOf(requester).key);
    const issued = await issue(request, {
      ...prepared,
      ...(tag && { tag }),
      containerImage: asked.image,
      ...holderFields(requester),
      request: shownRequest(request),
    });
    return { ...issued, warnings, moved };
  }

  async function prepareImage({ caller }: Requester, request: SubmitRequest, { image, work }: AskedImage) {
    const reference = parseReference(image);
    const changes = toChanges(request, attestations);
    requireSources(caller, [reference, ...repositoriesOf(changes)]);
    try {
      const origin = origins.locate(reference.registry, reference.repository);
      const ruled = await findRuled(caller, { origin, tag: reference.digest ? undefined : reference.tag });
      return await prepare({ reference, ...changes, ...ruled }, work);
    } catch (error) {
      throw toApiError(error, image);
    }
  }

  async function submitBuild(requester: Requester, request: SubmitRequest, work: Work): Promise<Submission> {
    const { caller } = requester;
    const { source, dryRun } = request;
    const planned = await (source.kind === 'image'
      ? planCopy(caller, request, { image: source.image, work })
      : planBuild(caller, request, { source, work }));
    if (!dryRun) await ledger.keepLayers(planned.storedLayers, accountOf(requester).key);
    const submitted = await (dryRun ? builds.preview : builds.submit)(requester, planned.spec, planned.packages);
    const issued = await issue(request, await toRecord(requester, request, { ...planned, ...submitted }));
    return { ...submitted, ...issued, warnings: planned.warnings, moved: planned.moved };
  }

  /** The token, and the scan of its image, where one is wanted: that begins once the token is there. */
  async function issue(request: SubmitRequest, record: NewTokenRecord): Promise<Pick<Submission, 'record' | 'scan'>> {
    const wanted = await openScan(request, record);
    const issued = await ledger.issue({ ...record, ...(wanted && { scan: wanted.demand }) });
    if (wanted) await scans.start(wanted.scan.id, issued.id);
    return { record: issued, scan: wanted?.scan };
  }

  async function openScan({ scanMode, scanLevels, dryRun, build }: SubmitRequest, record: NewTokenRecord) {
    if (scanMode === undefined || dryRun || build.format || !scans.isAvailable) return undefined;
    const { registry, repository, tag, buildId, frozenImage, sourceDigest, targetDigest, caller = '' } = record;
    const { ruleSteps = [], augmentation } = record;
    const image = `${registry}/${repository}${tag === undefined ? `@${sourceDigest}` : `:${tag}`}`;
    // A build keeps its id, whatever is known of it when it is asked for.
    const source = buildId ?? sourceDigest;
    const key = [registry, repository, tag, source, targetDigest, frozenImage, ruleSteps, augmentation];
    const scan = await scans.open({ key, image, repository: `${registry}/${repository}`, caller, buildId });
    const demand: ScanDemand = { id: scan.id, mode: scanMode, levels: [...new Set(scanLevels)] };
    return { scan, demand };
  }

  /** Throws a 501 where a scan is required, and there is no scanner; else what the caller should know. */
  function checkScanner({ scanMode }: SubmitRequest): readonly string[] {
    if (scanMode === undefined || scans.isAvailable) return [];
    const reason = 'there is no scanner here: set scans.scanner or scans.command in veneer.yaml';
    if (scanMode === 'required') throw new ApiError(501, `scanMode "required" is not possible: ${reason}`);
    return [`scanMode: the image is not scanned, as ${reason}`];
  }

  async function toRecord(
    requester: Requester,
    request: SubmitRequest,
    { spec, onTop, build, isCached }: Planned & Submitted,
  ): Promise<NewTokenRecord> {
    const { caller } = requester;
    const { source, dryRun } = request;
    const { freeze, mirror } = request.build;
    const origin = origins.locateName(spec.target.repository);
    const tag = build.image.slice(build.image.lastIndexOf(':') + 1);
    // An image with its own name stays as it was requested.
    const { ruleSteps, ruleLayerSources } =
      freeze || mirror ? NO_RULES : await findBuiltRules({ caller, image: { origin, tag } });
    return {
      registry: origin.registry.name,
      repository: origin.repository,
      tag,
      containerImage: source.kind === 'image' ? source.image : build.image,
      buildId: build.id,
      isBuildNew: !isCached,
      // From here on the record of the build, which may expire before the token, is not needed.
      ...(build.digest && { sourceDigest: build.digest }),
      ...((freeze || mirror) && { frozenImage: build.image }),
      ...(spec.format && { format: spec.format }),
      ...(mirror && { isMirrored: true }),
      ...(dryRun && { isDryRun: true }),
      ruleSteps,
      augmentation: onTop?.augmentation ?? { layers: [], attestations: 'keep' },
      layerSources: [...ruleLayerSources, ...(onTop?.layerSources ?? [])],
      ...holderFields(requester),
      request: shownRequest(request),
    };
  }

  async function findBuiltRules(of: Pick<Requester, 'caller'> & { readonly image: RequestedImage }) {
    const { caller, image } = of;
    return findRuled(caller, image).catch(error => {
      throw toSourceError(error, imageName(image.origin, image.tag));
    });
  }

  return async (requester, request, signal) => {
    const unscanned = request.build.format ? checkSif(request, options) : checkScanner(request);
    await tokenLimiter.consume(requester, weightOf(request));
    const { source, build } = request;
    const isThere = source.kind === 'image' && !build.freeze && !build.mirror;
    const submission = await withDeadline(signal, options, work =>
      isThere ? submitImage(requester, request, { image: source.image, work }) : submitBuild(requester, request, work),
    );
    return { ...submission, warnings: [...request.warnings, ...unscanned, ...(submission.warnings ?? [])] };
  };
}

const NO_CONVERTER =
  'format "sif" is not possible: no converter is configured: set builds.sif in veneer.yaml, or ask without format, and run ' +
  '"apptainer build image.sif docker://<targetImage>"';

/** Throws ApiError for what a SIF cannot be, a 501 where none can be made; else what the caller should know. */
function checkSif({ build, scanMode }: SubmitRequest, { convertsToSif }: SubmitOptions): readonly string[] {
  const { freeze, mirror, buildAttestations } = build;
  if (!convertsToSif) throw new ApiError(501, NO_CONVERTER);
  if (mirror) throw new ApiError(400, 'format: "sif" makes another image: it goes with freeze, and not with mirror');
  if (!freeze) throw new ApiError(400, 'format: "sif" needs freeze, as it is pulled by a name of its own');
  if (buildAttestations) throw new ApiError(400, 'format: "sif" goes without buildAttestations');
  if (scanMode === 'required') throw new ApiError(501, 'scanMode "required" is not possible: a SIF cannot be scanned');
  return scanMode ? ['scanMode: the image is not scanned, as a SIF cannot be'] : [];
}

/** Whose rights a token has. */
function holderFields({ caller }: Requester): Pick<NewTokenRecord, 'caller' | 'callerNetworks'> {
  const { networks } = caller;
  return { caller: subjectOf(caller), ...(networks && { callerNetworks: [...networks] }) };
}

/** So many bytes of a request, which its token's record keeps, count for one token. */
const BYTES_OF_ONE = 32 * 1024;

/** Layer data is not stored in the record. */
function weightOf({ containerConfig: { layers = [], ...config } = {}, containerIncludes }: SubmitRequest): number {
  const locations = layers.map(({ location }) => (/^data:/i.test(location) ? '' : location));
  return 1 + Math.floor(JSON.stringify([config, containerIncludes, locations]).length / BYTES_OF_ONE);
}

/** Does the work of one request, which ends with its client, and has so much time, which begins here, and so many bytes to unpack. */
async function withDeadline<T>(
  signal: AbortSignal,
  { requestTimeMs, unpackedRequestBytes }: WorkLimits,
  doWork: (work: Work) => Promise<T>,
): Promise<T> {
  const timeUp = new AbortController();
  const reason = `the request took longer than ${requestTimeMs / 1000} s (limits.requestTime in veneer.yaml)`;
  const timer = setTimeout(() => timeUp.abort(new ApiError(504, reason)), requestTimeMs).unref();
  try {
    return await doWork(createWork(AbortSignal.any([signal, timeUp.signal]), unpackedRequestBytes));
  } finally {
    // Until it fires it would hold what belongs to the request, for minutes.
    clearTimeout(timer);
  }
}

/** The part of a request that may be stored and shown: without layer data, access tokens, and user info or query of addresses. */
export function shownRequest(request: SubmitRequest): ShownRequest {
  const { containerPlatform, containerIncludes, containerConfig, towerWorkspaceId, workflowId, fingerprint } = request;
  const { buildRepository, cacheRepository } = request.build;
  return {
    ...{ buildRepository, cacheRepository, zoneId: request.zoneId, fusionVersion: findFusionVersion(request) },
    containerPlatform,
    containerIncludes: [...containerIncludes],
    containerConfig: containerConfig && shownConfig(containerConfig),
    towerWorkspaceId,
    workflowId,
    fingerprint,
  };
}

function shownConfig(config: ContainerConfig): ShownRequest['containerConfig'] {
  return { ...config, layers: config.layers?.map(layer => ({ ...layer, location: shownLocation(layer) })) };
}

function shownLocation({ location }: RequestedLayer): string {
  if (location.startsWith('data:')) return 'data:';
  const { protocol, host, pathname } = new URL(location);
  return `${protocol}//${host}${pathname}`;
}
