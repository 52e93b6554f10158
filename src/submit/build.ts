// Turns a submit request for a Containerfile, or for packages, into the spec of its build. Rights are checked first: nothing is read for a
// caller who lacks them.
import type { Access, Caller } from '../access/access.ts';
import type { Work } from '../augment/budget.ts';
import type { ContextSource } from '../builds/context/store-context.ts';
import type { PackageNames } from '../builds/packages/names.ts';
import { createPlanPackages, type PlanPackages } from '../builds/packages/plan-packages.ts';
import type { Plan } from '../builds/plan.ts';
import type { PackagesRecord } from '../builds/record.ts';
import type { BuildRequest } from '../builds/request.ts';
import type { Changes, ContainerFileSpec, Spec } from '../builds/spec.ts';
import type { Digest } from '../oci/digest.ts';
import { parsePlatform } from '../oci/platform.ts';
import type { OpenLayer } from '../pull/layers/layers.ts';
import { type Origin, originName } from '../pull/origin.ts';
import type { DescribeChanges, PlatformMoves, PreparedChanges } from '../pull/prepare.ts';
import type { RequireSources } from './changes.ts';
import { checkMediaTypes, hasChanges, repositoriesOf, toChanges } from './changes.ts';
import { ApiError, toApiError, toBuildError, toSourceError } from './errors.ts';
import type { BuildSource, RequestedBuild, RequestedContext, SubmitRequest } from './request.ts';
import type { Targets } from './target.ts';

/** What to build or copy for a submit request. */
export interface Planned {
  readonly spec: Spec;
  /** The changes that a pull by the token gets on top of the result. */
  readonly onTop: Changes | undefined;
  readonly packages?: PackagesRecord | undefined;
  /** The bytes of layers that came with the request: to be stored with the spec or the changes. */
  readonly storedLayers: ReadonlyMap<Digest, Uint8Array>;
  /** Warnings for the caller, one sentence each. */
  readonly warnings?: readonly string[] | undefined;
  readonly moved?: readonly PlatformMoves[] | undefined;
}

export interface PlanBuildDeps {
  readonly access: Pick<Access, 'requireRight'>;
  readonly targets: Targets;
  readonly requireSources: RequireSources;
  readonly openLayer: OpenLayer;
  readonly describeChanges: DescribeChanges;
  readonly plan: Plan;
  /** Every image that the build would read. Throws InvalidBuild or RegistryError. */
  readonly listBases: (request: BuildRequest) => readonly Origin[];
  readonly allowance: BuildAllowance;
}

/** What requests may use of the build configuration. */
interface BuildAllowance {
  /** The ids of secrets, of agent sockets and keys, and the networks that requests may name. */
  readonly secrets: readonly string[];
  readonly ssh: readonly string[];
  readonly networks: readonly string[];
  /** The maximum build timeout. */
  readonly timeoutMs: number;
}

/** Throws ApiError or RegistryError. */
type PlanBuild = (
  caller: Caller,
  request: SubmitRequest,
  options: { readonly source: BuildSource; readonly work: Work },
) => Promise<Planned>;

export function createPlanBuild(deps: PlanBuildDeps): PlanBuild {
  const { access, targets, requireSources, openLayer, describeChanges, plan, listBases, allowance } = deps;
  const planPackages = createPlanPackages();

  async function toBuild(
    caller: Caller,
    { build, platforms }: SubmitRequest,
    { source, work }: { readonly source: BuildSource; readonly work: Work },
  ): Promise<{ readonly wanted: BuildRequest; readonly packages: PackagesRecord | undefined }> {
    targets.requirePush(caller, build);
    const { containerFile, files, names, record: packages } = await textOf(source, build.buildTemplate, planPackages);
    const wanted = {
      ...optionsOf(build),
      containerFile,
      platforms,
      target: targets.ofBuild(caller, build, names),
      cacheRepository: targets.ofCache(caller, build),
      context: files ? filesContext(build, files) : build.buildContext && toContext(caller, build.buildContext, work),
    };
    return { wanted, packages };
  }

  /** Not opened before the build reads it. */
  function toContext(caller: Caller, context: RequestedContext, work: Work): ContextSource {
    if (context.kind === 'files') return context;
    const { layer } = context;
    requireSources(caller, repositoriesOf({ layers: [layer], includes: [] }));
    const open = () =>
      openLayer(layer, work).catch(error => {
        throw toApiError(error, 'buildContext');
      });
    return { kind: 'tar', open };
  }

  function requireBases(caller: Caller, wanted: BuildRequest): void {
    for (const base of findBases(wanted)) access.requireRight(caller, 'pull', originName(base));
  }

  function findBases(wanted: BuildRequest): readonly Origin[] {
    try {
      return listBases(wanted);
    } catch (error) {
      throw toSourceError(toBuildError(error), 'containerFile');
    }
  }

  /** The changes on top of the build, checked before it starts although the image does not exist yet; undefined where there are none. */
  async function describe(caller: Caller, request: SubmitRequest, work: Work): Promise<PreparedChanges | undefined> {
    if (!hasChanges(request)) return undefined;
    // The build decides the platforms, and its attestations describe its own result.
    const { layers, includes, changes: all } = toChanges(request, 'keep');
    const { platforms: _, ...changes } = all;
    requireSources(caller, repositoriesOf({ layers, includes }));
    const described = await describeChanges({ layers, includes, changes }, work).catch(error => {
      throw toApiError(error, 'containerConfig');
    });
    checkMediaTypes(request, described.augmentation.layers);
    return described;
  }

  async function toSpec(wanted: BuildRequest, { signal }: Work): Promise<ContainerFileSpec> {
    try {
      return await plan(wanted, signal);
    } catch (error) {
      const known = toBuildError(error);
      throw known === error ? toApiError(error, 'buildContext') : known;
    }
  }

  return async (caller, request, options) => {
    const { work } = options;
    checkAllowed(request.build, allowance);
    const { wanted, packages } = await toBuild(caller, request, options);
    requireBases(caller, wanted);
    const described = await describe(caller, request, work);
    const changes = described && { augmentation: described.augmentation, layerSources: described.layerSources };
    const isFrozen = request.build.freeze === true;
    const { format } = request.build;
    const planned = await toSpec({ ...wanted, changes: isFrozen ? changes : undefined }, work);
    const spec = format ? { ...planned, format } : planned;
    if (described) requireLayers(described, spec);
    if (spec.format) requireOnePlatform(spec.platforms);
    const storedLayers: Planned['storedLayers'] = described?.storedLayers ?? new Map();
    return { spec, onTop: isFrozen ? undefined : changes, storedLayers, packages };
  };
}

/** Throws ApiError for a build that requests more than the configuration allows. */
function checkAllowed(build: RequestedBuild, { secrets, ssh, networks, timeoutMs }: BuildAllowance): void {
  const { buildSecrets = [], buildSsh = [], buildNetwork = 'default', buildTimeout = 0 } = build;
  checkNames('buildSecrets', buildSecrets, secrets);
  checkNames('buildSsh', buildSsh, ssh);
  checkNames('buildNetwork', [buildNetwork], networks);
  if (buildTimeout <= timeoutMs) return;
  const [asked, most] = [buildTimeout, timeoutMs].map(ms => `${ms / 1000} s`);
  throw new ApiError(400, `buildTimeout: is ${asked}, over the limit of ${most} (builds.timeout in veneer.yaml)`);
}

function checkNames(field: string, given: readonly string[], known: readonly string[]): void {
  const unknown = given.find(name => !known.includes(name));
  if (unknown === undefined) return;
  const choice = known.length > 0 ? `requests may use ${known.join(', ')}` : 'requests may use none';
  throw new ApiError(400, `${field}: "${unknown}" is not allowed here: ${choice} (builds.requests in veneer.yaml)`);
}

type Files = Readonly<Record<string, string>>;

function filesContext({ buildContext }: RequestedBuild, files: Files): ContextSource {
  if (buildContext) throw new ApiError(400, 'buildContext: a build from packages has no context');
  return { kind: 'files', files };
}

interface Text {
  readonly containerFile: string;
  /** The context that belongs to it. */
  readonly files?: Files | undefined;
  readonly names?: PackageNames | undefined;
  readonly record?: PackagesRecord | undefined;
}

async function textOf(
  source: BuildSource,
  buildTemplate: string | undefined,
  planPackages: PlanPackages,
): Promise<Text> {
  if (source.kind === 'file') return source;
  try {
    return await planPackages(source.packages, buildTemplate);
  } catch (error) {
    throw toBuildError(error);
  }
}

function optionsOf(build: RequestedBuild) {
  const { sbom = false, provenance = 'none' } = build.buildAttestations ?? {};
  return {
    args: build.buildArgs,
    stage: build.buildTarget,
    labels: build.buildLabels,
    secrets: build.buildSecrets,
    ssh: build.buildSsh,
    network: build.buildNetwork,
    attestations: { sbom, provenance },
    compression: build.buildCompression,
    timeoutMs: build.buildTimeout,
  };
}

function requireLayers({ requirePlatforms }: PreparedChanges, { platforms }: ContainerFileSpec): void {
  try {
    requirePlatforms(platforms.map(parsePlatform));
  } catch (error) {
    throw toApiError(error, 'containerPlatform');
  }
}

/** Throws ApiError. A SIF is of one. */
export function requireOnePlatform(platforms: readonly string[] | undefined): void {
  if (platforms?.length === 1) return;
  throw new ApiError(400, 'containerPlatform: a SIF is for one platform, such as linux/amd64');
}
