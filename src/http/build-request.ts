// From a submit request for a Containerfile, or for packages, to the spec of its build: what is read for it, and whether the caller may.
import type { Context } from 'hono';
import type { Work } from '../augment/budget.ts';
import type { ContextSource } from '../builds/context/store-context.ts';
import type { PackageNames } from '../builds/packages/names.ts';
import { createPlanPackages, type PlanPackages } from '../builds/packages/plan-packages.ts';
import type { Plan } from '../builds/plan.ts';
import type { BuildRequest } from '../builds/request.ts';
import type { Changes, ContainerFileSpec, Spec } from '../builds/spec.ts';
import type { Digest } from '../oci/digest.ts';
import { parsePlatform } from '../oci/platform.ts';
import { type Origin, originName } from '../pull/origin.ts';
import type { PlatformMoves, PreparedChanges } from '../pull/prepare.ts';
import { ApiError } from './api-error.ts';
import type { SubmitRequest, SubmitSource } from './augment-schema.ts';
import { requireRight } from './authentication.ts';
import { type BuildAllowance, checkAllowed } from './build-allowance.ts';
import { toBuildError } from './build-error.ts';
import type { RequestedBuild } from './build-schema.ts';
import type { Targets } from './build-target.ts';
import type { DescribeRequested } from './describe-requested.ts';
import { toApiError } from './requested-changes.ts';
import type { ReadContext } from './requested-context.ts';
import { sourceError } from './source-error.ts';

/** What a submit request asks to be made. */
export interface Asked {
  readonly spec: Spec;
  /** What a pull by the token gets beyond what is made. */
  readonly onTop: Changes | undefined;
  /** The bytes of layers that came with the request: whoever keeps the spec or the changes keeps them too. */
  readonly storedLayers: ReadonlyMap<Digest, Uint8Array>;
  /** What whoever asked should know, each in a sentence. */
  readonly warnings?: readonly string[] | undefined;
  readonly moved?: readonly PlatformMoves[] | undefined;
}

interface ReadBuildDeps {
  readonly targets: Targets;
  readonly readContext: ReadContext;
  readonly describeRequested: DescribeRequested;
  readonly plan: Plan;
  /** Every image that the build would read. Throws InvalidBuild or RegistryError. */
  readonly listBases: (request: BuildRequest) => readonly Origin[];
  readonly allowance: BuildAllowance;
}

type BuildSource = Exclude<SubmitSource, { readonly kind: 'image' }>;

/** Throws ApiError or RegistryError. Rights come first: nothing is read for who may not have it. */
export type ReadBuild = (c: Context, request: SubmitRequest, options: BuildOptions) => Promise<Asked>;

interface BuildOptions {
  readonly source: BuildSource;
  readonly work: Work;
}

export function createReadBuild(deps: ReadBuildDeps): ReadBuild {
  const { targets, listBases, describeRequested, allowance } = deps;
  const planPackages = createPlanPackages();

  async function toBuild(
    c: Context,
    { build, platforms }: SubmitRequest,
    { source, work }: BuildOptions,
  ): Promise<BuildRequest> {
    targets.requirePush(c, build);
    const { containerFile, files, names } = await textOf(source, build.buildTemplate, planPackages);
    return {
      ...optionsOf(build),
      containerFile,
      platforms,
      target: targets.ofBuild(c, build, names),
      cacheRepository: targets.ofCache(c, build),
      context: files ? filesContext(build, files) : build.buildContext && deps.readContext(c, build.buildContext, work),
    };
  }

  function requireBases(c: Context, wanted: BuildRequest): void {
    for (const base of findBases(wanted)) requireRight(c, 'pull', originName(base));
  }

  function findBases(wanted: BuildRequest): readonly Origin[] {
    try {
      return listBases(wanted);
    } catch (error) {
      throw sourceError(toBuildError(error), 'containerFile');
    }
  }

  async function planBuild(wanted: BuildRequest, { signal }: Work): Promise<ContainerFileSpec> {
    try {
      return await deps.plan(wanted, signal);
    } catch (error) {
      const known = toBuildError(error);
      throw known === error ? toApiError(error, 'buildContext') : known;
    }
  }

  return async (c, request, options) => {
    const { work } = options;
    checkAllowed(request.build, allowance);
    const wanted = await toBuild(c, request, options);
    requireBases(c, wanted);
    const described = await describeRequested(c, request, work);
    const changes = described && { augmentation: described.augmentation, layerSources: described.layerSources };
    const isFrozen = request.build.freeze === true;
    const spec = await planBuild({ ...wanted, changes: isFrozen ? changes : undefined }, work);
    if (described) requireLayers(described, spec);
    return { spec, onTop: isFrozen ? undefined : changes, storedLayers: described?.storedLayers ?? new Map() };
  };
}

type Files = Readonly<Record<string, string>>;

function filesContext({ buildContext }: RequestedBuild, files: Files): ContextSource {
  if (buildContext) throw new ApiError(400, 'buildContext: what is built from packages takes no context');
  return { kind: 'files', files };
}

interface Text {
  readonly containerFile: string;
  /** The context that belongs to it. */
  readonly files?: Files | undefined;
  readonly names?: PackageNames | undefined;
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
