// Where what a request asks for is pushed: the repository that it names or the configured one, and whether the caller may push there.
import type { Context } from 'hono';
import type { PackageNames } from '../builds/packages/names.ts';
import type { Target } from '../builds/spec.ts';
import { parseReference } from '../oci/reference.ts';
import { type Origin, type Origins, originName } from '../pull/origin.ts';
import { ApiError } from './api-error.ts';
import { callerName, hasRight, requireRight } from './authentication.ts';
import type { RequestedBuild } from './build-schema.ts';
import { sourceError } from './source-error.ts';

/** Every function throws ApiError, UNAUTHORIZED or DENIED. */
export interface Targets {
  /** Before anything of the request is read: whoever may not push what becomes of it, whatever its packages are called, is refused. */
  requirePush(c: Context, build: RequestedBuild): void;
  ofBuild(c: Context, build: RequestedBuild, names: PackageNames | undefined): Target;
  /** `tag` is that of the source. */
  ofCopy(
    c: Context,
    build: RequestedBuild,
    source: { readonly origin: Origin; readonly tag: string | undefined },
  ): Target;
  /** The full name of the repository of the layer cache. */
  ofCache(c: Context, build: RequestedBuild): string | undefined;
}

interface TargetsDeps {
  readonly origins: Origins;
  /** Where goes what names no repository. */
  readonly repository: string;
  readonly cacheRepository: string | undefined;
}

export function createTargets({ origins, repository, cacheRepository }: TargetsDeps): Targets {
  /** The full name of a repository. */
  function locate(field: string, name: string): string {
    try {
      const { registry, repository, tag, digest } = parseReference(name);
      if (digest || name.endsWith(`:${tag}`))
        throw new ApiError(400, `${field}: a repository takes no tag and no digest`);
      return originName(origins.locate(registry, repository));
    } catch (error) {
      throw sourceError(error, field);
    }
  }

  function locateDefault(): string {
    const isOurs = parseReference(repository).registry !== undefined || origins.findNamed(repository) !== undefined;
    if (isOurs) return locate('buildRepository', repository);
    throw new ApiError(400, `buildRepository: is needed, for ${repository} of builds.repository is not hosted here`);
  }

  function locateTarget({ buildRepository }: RequestedBuild, below: string | undefined): string {
    const base = buildRepository === undefined ? locateDefault() : locate('buildRepository', buildRepository);
    return below === undefined ? base : locate('buildRepository', `${base}/${below}`);
  }

  function push(c: Context, build: RequestedBuild, target: Target): Target {
    requireRight(c, 'build', target.repository);
    const { buildTag, freeze, mirror, buildRepository } = build;
    if (buildTag === undefined) return target;
    if (!freeze && !mirror && buildRepository === undefined)
      throw new ApiError(400, 'buildTag: needs freeze, or a buildRepository of its own');
    return { ...target, tag: buildTag };
  }

  return {
    requirePush(c, build) {
      const base = locateTarget(build, undefined);
      const mayBelow =
        build.nameStrategy === 'imageSuffix' && (hasRight(c, 'build', `${base}/_`) || callerName(c) !== undefined);
      if (!mayBelow) requireRight(c, 'build', base);
    },
    ofBuild(c, build, names) {
      const { below, tagPrefix } = nameOf(build, names);
      return push(c, build, { repository: locateTarget(build, below), ...(tagPrefix !== undefined && { tagPrefix }) });
    },
    ofCopy(c, build, { origin, tag }) {
      // A mirrored image keeps its name, below the repository, and its tag where it has one.
      const target = build.mirror
        ? { repository: locateTarget(build, origin.repository), ...(tag !== undefined && { tag }) }
        : { repository: locateTarget(build, undefined) };
      const pushed = push(c, build, target);
      const { registry } = origins.locateName(pushed.repository);
      if (build.mirror && registry.name === origin.registry.name)
        throw new ApiError(
          400,
          `buildRepository: is in ${registry.name}, where the image is: a mirror goes to another registry`,
        );
      return pushed;
    },
    ofCache(c, build) {
      const name = build.cacheRepository ?? cacheRepository;
      if (name === undefined) return undefined;
      const full = locate('cacheRepository', name);
      requireRight(c, 'build', full);
      return full;
    },
  };
}

/** What the names of packages do to the name of the image. */
function nameOf({ nameStrategy = 'tagPrefix' }: RequestedBuild, names: PackageNames | undefined) {
  switch (nameStrategy) {
    case 'none':
      return {};
    case 'tagPrefix':
      return { tagPrefix: names?.tagPrefix };
    case 'imageSuffix':
      return { below: names?.imageSuffix, tagPrefix: names?.version };
  }
}
