// Turns a submit request for an existing image into the spec of its copy: an unchanged mirror, or frozen with its changes.
import type { Caller } from '../access/access.ts';
import type { Work } from '../augment/budget.ts';
import type { Changes } from '../builds/spec.ts';
import type { Digest } from '../oci/digest.ts';
import { formatPlatform } from '../oci/platform.ts';
import { parseReference, type Reference } from '../oci/reference.ts';
import { type Origin, type Origins, resolveReference } from '../pull/origin.ts';
import type { Prepare, Prepared } from '../pull/prepare.ts';
import { type Planned, requireOnePlatform } from './build.ts';
import type { RequireSources } from './changes.ts';
import { checkMediaTypes, hasChanges, repositoriesOf, toChanges } from './changes.ts';
import { toApiError } from './errors.ts';
import type { SubmitRequest } from './request.ts';
import type { Targets } from './target.ts';

/** Throws ApiError or RegistryError. */
type PlanCopy = (
  caller: Caller,
  request: SubmitRequest,
  options: {
    /** As requested. */
    readonly image: string;
    readonly work: Work;
  },
) => Promise<Planned>;

interface Source {
  readonly reference: Reference;
  readonly origin: Origin;
  readonly work: Work;
}

interface Pinned extends Pick<Prepared, 'storedLayers' | 'warnings' | 'moved'> {
  readonly digest: Digest;
  readonly changes: Changes | undefined;
}

export function createPlanCopy({
  origins,
  targets,
  prepare,
  requireSources,
  attestations,
}: {
  readonly origins: Origins;
  readonly targets: Targets;
  readonly prepare: Prepare;
  readonly requireSources: RequireSources;
  /** What to do with attestations in a changed image. */
  readonly attestations: 'drop' | 'keep';
}): PlanCopy {
  function locate({ registry, repository }: Reference, image: string): Origin {
    try {
      return origins.locate(registry, repository);
    } catch (error) {
      throw toApiError(error, image);
    }
  }

  /** Checks for each platform that the image is available and can be changed, before anything is copied. */
  async function pin(request: SubmitRequest, { reference, origin, work }: Source): Promise<Pinned> {
    if (!hasChanges(request) && platformsOf(request) === undefined) {
      const digest = await resolveReference(origin, reference, { signal: work.signal });
      return { digest, changes: undefined, storedLayers: new Map(), warnings: [], moved: [] };
    }
    const prepared = await prepare({ reference, ...toChanges(request, attestations) }, work);
    const { sourceDigest, layerSources, storedLayers, warnings, moved } = prepared;
    const { platforms: _, ...augmentation } = prepared.augmentation;
    checkMediaTypes(request, augmentation.layers);
    const changes = hasChanges(request) ? { augmentation, layerSources } : undefined;
    return { digest: sourceDigest, changes, storedLayers, warnings, moved };
  }

  return async (caller, request, { image, work }) => {
    const reference = parseReference(image);
    const origin = locate(reference, image);
    requireSources(caller, [reference, ...repositoriesOf(toChanges(request, attestations))]);
    const tag = reference.digest ? undefined : reference.tag;
    const target = targets.ofCopy(caller, request.build, { origin, tag });
    const { digest, changes, ...rest } = await pin(request, { reference, origin, work }).catch(error => {
      throw toApiError(error, image);
    });
    const { format, buildTimeout } = request.build;
    const source = { registry: origin.registry.name, repository: origin.repository, tag, digest };
    const platforms = platformsOf(request)?.map(formatPlatform);
    if (format) requireOnePlatform(platforms);
    const spec = { kind: 'copy', source, platforms, changes, format, target, timeoutMs: buildTimeout } as const;
    return { spec, onTop: undefined, ...rest };
  };
}

/** A mirror has all platforms, whatever was requested: clients always name one, and each would overwrite the tag with its own. */
function platformsOf({ build, platforms }: SubmitRequest): SubmitRequest['platforms'] {
  return build.mirror ? undefined : platforms;
}
