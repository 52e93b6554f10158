// The destination of a build or copy: the repository named in the request or the configured one, if the caller may push there.
import { type Access, type Caller, subjectOf } from '../access/access.ts';
import type { PackageNames } from '../builds/packages/names.ts';
import type { Target } from '../builds/spec.ts';
import { parseReference } from '../oci/reference.ts';
import { type Origin, type Origins, originName } from '../pull/origin.ts';
import { ApiError, toSourceError } from './errors.ts';
import type { RequestedBuild } from './request.ts';

/** Every function throws ApiError, UNAUTHORIZED or DENIED. */
export interface Targets {
  /** Checked before anything of the request is read: a caller who may not push the result is refused, whatever its packages are called. */
  requirePush(caller: Caller, build: RequestedBuild): void;
  ofBuild(caller: Caller, build: RequestedBuild, names: PackageNames | undefined): Target;
  /** `tag` is that of the source. */
  ofCopy(
    caller: Caller,
    build: RequestedBuild,
    source: { readonly origin: Origin; readonly tag: string | undefined },
  ): Target;
  /** The full name of the repository of the layer cache. */
  ofCache(caller: Caller, build: RequestedBuild): string | undefined;
}

export interface TargetsDeps {
  readonly origins: Origins;
  readonly access: Pick<Access, 'isAllowed' | 'requireRight'>;
  /** The default repository. */
  readonly repository: string;
  readonly cacheRepository: string | undefined;
}

export function createTargets({ origins, access, repository, cacheRepository }: TargetsDeps): Targets {
  /** The full name of a repository. */
  function locate(field: string, name: string): string {
    try {
      const { registry, repository, tag, digest } = parseReference(name);
      if (digest || name.endsWith(`:${tag}`))
        throw new ApiError(400, `${field}: a repository must have no tag or digest`);
      return originName(origins.locate(registry, repository));
    } catch (error) {
      throw toSourceError(error, field);
    }
  }

  function locateDefault(): string {
    const isOurs = parseReference(repository).registry !== undefined || origins.findNamed(repository) !== undefined;
    if (isOurs) return locate('buildRepository', repository);
    throw new ApiError(400, `buildRepository: must be given, as ${repository} (builds.repository) is not hosted here`);
  }

  function locateTarget({ buildRepository }: RequestedBuild, below: string | undefined): string {
    const base = buildRepository === undefined ? locateDefault() : locate('buildRepository', buildRepository);
    return below === undefined ? base : locate('buildRepository', `${base}/${below}`);
  }

  function push(caller: Caller, build: RequestedBuild, target: Target): Target {
    access.requireRight(caller, 'build', target.repository);
    const { buildTag, freeze, mirror, buildRepository } = build;
    if (buildTag === undefined) return target;
    if (!freeze && !mirror && buildRepository === undefined)
      throw new ApiError(400, 'buildTag: needs freeze, or a buildRepository');
    return { ...target, tag: buildTag };
  }

  return {
    requirePush(caller, build) {
      const base = locateTarget(build, undefined);
      const mayPushBelow = access.isAllowed(caller, 'build', `${base}/_`) || subjectOf(caller) !== '';
      if (build.nameStrategy !== 'imageSuffix' || !mayPushBelow) access.requireRight(caller, 'build', base);
    },
    ofBuild(caller, build, names) {
      const { below, tagPrefix } = nameOf(build, names);
      const repository = locateTarget(build, below);
      return push(caller, build, { repository, ...(tagPrefix !== undefined && { tagPrefix }) });
    },
    ofCopy(caller, build, { origin, tag }) {
      // A mirrored image keeps its name, below the repository, and its tag if it has one.
      const target = build.mirror
        ? { repository: locateTarget(build, origin.repository), ...(tag !== undefined && { tag }) }
        : { repository: locateTarget(build, undefined) };
      const pushed = push(caller, build, target);
      const { registry } = origins.locateName(pushed.repository);
      if (build.mirror && registry.name === origin.registry.name)
        throw new ApiError(
          400,
          `buildRepository: is in ${registry.name}, like the image: a mirror must go to another registry`,
        );
      return pushed;
    },
    ofCache(caller, build) {
      const name = build.cacheRepository ?? cacheRepository;
      if (name === undefined) return undefined;
      const full = locate('cacheRepository', name);
      access.requireRight(caller, 'build', full);
      return full;
    },
  };
}

/** How the packages contribute to the name of the image. */
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
