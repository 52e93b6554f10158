// From a submit request for an image that exists to the spec of its copy: a mirror of it as it is, or a frozen one with its changes.
import type { Context } from 'hono';
import type { Work } from '../augment/budget.ts';
import type { Changes } from '../builds/spec.ts';
import type { Digest } from '../oci/digest.ts';
import { formatPlatform } from '../oci/platform.ts';
import { parseReference, type Reference } from '../oci/reference.ts';
import { type Origin, type Origins, resolveReference } from '../pull/origin.ts';
import type { Prepare, Prepared } from '../pull/prepare.ts';
import type { SubmitRequest } from './augment-schema.ts';
import type { Asked } from './build-request.ts';
import type { Targets } from './build-target.ts';
import { checkMediaTypes, hasChanges, toApiError, toChanges } from './requested-changes.ts';
import { placesOf, type RequireSources } from './source-rights.ts';

interface ReadCopyDeps {
  readonly origins: Origins;
  readonly targets: Targets;
  readonly prepare: Prepare;
  readonly requireSources: RequireSources;
  /** What becomes of them in an image that is changed. */
  readonly attestations: 'drop' | 'keep';
}

/** Throws ApiError or RegistryError. */
export type ReadCopy = (c: Context, request: SubmitRequest, options: CopyOptions) => Promise<Asked>;

interface CopyOptions {
  /** As asked. */
  readonly image: string;
  readonly work: Work;
}

export function createReadCopy({ origins, targets, prepare, requireSources, attestations }: ReadCopyDeps): ReadCopy {
  function locate({ registry, repository }: Reference, image: string): Origin {
    try {
      return origins.locate(registry, repository);
    } catch (error) {
      throw toApiError(error, image);
    }
  }

  /** Whether the image can be had and changed, for each platform, is known before anything of it is copied. */
  async function pin(request: SubmitRequest, { reference, origin, work }: Source): Promise<Pinned> {
    const isPlain = !hasChanges(request) && platformsOf(request) === undefined;
    if (isPlain)
      return {
        digest: await resolveReference(origin, reference, { signal: work.signal }),
        changes: undefined,
        storedLayers: new Map(),
        ...{ warnings: [], moved: [] },
      };
    const prepared = await prepare({ reference, ...toChanges(request, attestations) }, work);
    const { platforms: _, ...augmentation } = prepared.augmentation;
    checkMediaTypes(request.containerConfig?.layers ?? [], augmentation.layers);
    return {
      digest: prepared.sourceDigest,
      changes: hasChanges(request) ? { augmentation, layerSources: prepared.layerSources } : undefined,
      ...{ storedLayers: prepared.storedLayers, warnings: prepared.warnings, moved: prepared.moved },
    };
  }

  return async (c, request, { image, work }) => {
    const reference = parseReference(image);
    const origin = locate(reference, image);
    requireSources(c, placesOf({ reference, ...toChanges(request, attestations) }));
    const tag = reference.digest ? undefined : reference.tag;
    const target = targets.ofCopy(c, request.build, { origin, tag });
    const { digest, changes, ...told } = await pin(request, { reference, origin, work }).catch(error => {
      throw toApiError(error, image);
    });
    const source = { registry: origin.registry.name, repository: origin.repository, tag, digest };
    const platforms = platformsOf(request)?.map(formatPlatform);
    const spec = { kind: 'copy', source, platforms, changes, target, timeoutMs: request.build.buildTimeout } as const;
    return { spec, onTop: undefined, ...told };
  };
}

/** A mirror has all platforms, whatever it is asked for: clients always name one, and each would overwrite the tag with its own. */
function platformsOf({ build, platforms }: SubmitRequest): SubmitRequest['platforms'] {
  return build.mirror ? undefined : platforms;
}

interface Source {
  readonly reference: Reference;
  readonly origin: Origin;
  readonly work: Work;
}

interface Pinned extends Pick<Prepared, 'storedLayers' | 'warnings' | 'moved'> {
  readonly digest: Digest;
  readonly changes: Changes | undefined;
}
