// From a request to a spec: everything is checked, resolved and pinned before a build starts.
import { setImmediate as yieldToOthers } from 'node:timers/promises';
import type { ContentStore } from '../content/store.ts';
import { formatPlatform, normalizePlatform, type Platform } from '../oci/platform.ts';
import { type BaseLookup, lookUpBases } from './bases.ts';
import { type BaseUse, findBases } from './containerfile/bases.ts';
import { InvalidContainerFile } from './containerfile/container-file.ts';
import { parseContainerFile } from './containerfile/parse.ts';
import { type ContextSource, storeContext } from './context/store-context.ts';
import { type ContextLimits, InvalidContext } from './context/tree.ts';
import {
  type BuildRequest,
  checkRequest,
  DEFAULT_REQUEST_LIMITS,
  InvalidBuild,
  type RequestLimits,
} from './request.ts';
import type { ContainerFileSpec } from './spec.ts';

export interface PlanDeps {
  readonly images: BaseLookup;
  /** The store of build contexts. */
  readonly content: Pick<ContentStore, 'ingest'>;
  readonly limits?: PlanLimits | undefined;
  /** Throws if no backend can build the spec. Called before anything is resolved: the spec has no context and no bases yet. */
  readonly supports: (platforms: readonly Platform[], spec: ContainerFileSpec) => Promise<void>;
  readonly policy: PlanPolicy;
  /** Where contexts are unpacked before they are stored; default: the system's. */
  readonly temporaryDirectory?: string | undefined;
}

export interface PlanLimits {
  readonly request?: RequestLimits | undefined;
  readonly context?: ContextLimits | undefined;
}

export interface PlanPolicy {
  /** The platforms of a request that names none; at least one. */
  readonly defaultPlatforms: readonly Platform[];
  /** Whether a base whose tag has moved leads to a new build; default: yes. */
  readonly pinBases?: boolean | undefined;
}

/** Throws InvalidBuild for what is wrong with the request, what `supports` throws, and the errors of the context's source and the store. */
export type Plan = (request: BuildRequest, signal?: AbortSignal) => Promise<ContainerFileSpec>;

export function createPlan(deps: PlanDeps): Plan {
  const { images, limits = {}, supports, policy } = deps;
  return async (request, signal) => {
    checkRequest(request, limits.request ?? DEFAULT_REQUEST_LIMITS);
    await yieldToOthers();
    const platforms = platformsOf(request, policy);
    const bases = findReferences(request, platforms);
    const draft = draftSpec(request, platforms);
    // A long file takes time each time that it is parsed: yield to other work in between.
    await yieldToOthers();
    await supports(platforms, draft);
    const digests = policy.pinBases === false ? {} : await lookUpBases(bases, images, signal);
    signal?.throwIfAborted();
    const context = request.context && (await keepContext(request.context, deps));
    return { ...draft, bases: digests, ...(context && { context }) };
  };
}

/**
 * The names, as written, of all images that a build would read: whether the caller may pull them is checked before anything is resolved.
 * Throws InvalidBuild.
 */
export function listRead(request: BuildRequest, policy: PlanPolicy, limits: PlanLimits = {}): readonly string[] {
  checkRequest(request, limits.request ?? DEFAULT_REQUEST_LIMITS);
  return findReferences(request, platformsOf(request, policy)).map(({ reference }) => reference);
}

/** Without duplicates, in the order of the request. */
function platformsOf({ platforms }: BuildRequest, { defaultPlatforms }: PlanPolicy): readonly Platform[] {
  const named = (platforms ?? defaultPlatforms).map(platform => normalizePlatform(platform));
  return [...new Map(named.map(platform => [formatPlatform(platform), platform])).values()];
}

function findReferences(
  { containerFile, args = {}, stage }: BuildRequest,
  platforms: readonly Platform[],
): readonly BaseUse[] {
  try {
    return findBases(parseContainerFile(containerFile), { args, stage, platforms });
  } catch (error) {
    if (!(error instanceof InvalidContainerFile)) throw error;
    throw new InvalidBuild(`containerFile: ${error.message}`, { cause: error });
  }
}

function draftSpec(request: BuildRequest, platforms: readonly Platform[]): ContainerFileSpec {
  return {
    kind: 'containerfile',
    containerFile: request.containerFile,
    platforms: platforms.map(formatPlatform),
    bases: {},
    args: request.args ?? {},
    stage: request.stage,
    labels: request.labels ?? {},
    secrets: request.secrets ?? [],
    ssh: request.ssh ?? [],
    network: request.network ?? 'default',
    attestations: request.attestations ?? { sbom: false, provenance: 'none' },
    compression: request.compression,
    cacheRepository: request.cacheRepository,
    changes: request.changes,
    target: request.target,
    timeoutMs: request.timeoutMs,
  };
}

async function keepContext(source: ContextSource, { content, limits, temporaryDirectory }: PlanDeps) {
  try {
    return await storeContext(source, content, { limits: limits?.context, temporaryDirectory });
  } catch (error) {
    throw error instanceof InvalidContext ? new InvalidBuild(error.message, { cause: error }) : error;
  }
}
