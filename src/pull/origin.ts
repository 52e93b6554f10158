// Origins: the registry and repository that a name means.
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { isRegistryHost, parseRepository, type Reference } from '../oci/reference.ts';
import type { CallOptions, GetCredentials, Upstream, Upstreams } from '../upstream/upstream.ts';
import { normalizeName } from '../upstream/upstreams.ts';
import type { Registry } from './registry.ts';

/** The location of an image. */
export interface Origin {
  readonly registry: Registry;
  readonly repository: string;
}

export interface Origins {
  /**
   * The origin of a name in a path: its first component is a registry host or an alias, otherwise the default upstream is used. Where the
   * upstream receives clients' credentials, the origin is specific to the client's.
   */
  locateName(name: string, getCredentials?: GetCredentials): Origin;
  /** The origin of a name that begins with a hosted prefix or a configured alias or host; undefined for any other. */
  findNamed(name: string): Origin | undefined;
  /** The origin of a parsed reference. All throw NAME_INVALID, DENIED for what the configuration closes, or what `getCredentials` throws. */
  locate(registry: string | undefined, repository: string, getCredentials?: GetCredentials): Origin;
  /**
   * The origin of a name requested by a mirror's client, with the registry that it belongs to (`ns`): the whole name is the repository,
   * except for a first component that repeats the registry. In our own namespace it is as without one. Throws NAME_UNKNOWN for a namespace
   * that is not an upstream, NAME_INVALID for an invalid name.
   */
  locateIn(namespace: string, name: string, getCredentials?: GetCredentials): Origin;
  /** Whether it is one of our hosts. */
  isOwn(registry: string): boolean;
}

export const DOCKER_HUB = 'docker.io';

/** The registries by name: see `createRegistries`. */
export interface Registries {
  /** The hosted prefixes, without their slash. */
  readonly hosted: readonly string[];
  findHosted(name: string): Registry | undefined;
  /** `locateName` finds the hosted repositories behind those of the upstream. */
  ofUpstream(upstream: Upstream, locateName: Origins['locateName']): Registry;
}

export function createOrigins(deps: {
  readonly upstreams: Upstreams;
  readonly registries: Registries;
  /** The hosts under which clients know us: as a prefix of a name they are ignored. */
  readonly ownHosts: ReadonlySet<string>;
  readonly defaultUpstream: string;
}): Origins {
  const { upstreams, registries, ownHosts, defaultUpstream } = deps;

  function locate(registry: string | undefined, repository: string, getCredentials?: GetCredentials): Origin {
    if (registry === undefined || isOwn(registry)) return locateAlias(repository, getCredentials);
    const own = registries.findHosted(registry);
    if (own) return { registry: own, repository: parseRepository(repository) };
    return locateUpstream(registry, repository, getCredentials);
  }

  function locateUpstream(registry: string, repository: string, getCredentials?: GetCredentials): Origin {
    const upstream = upstreams.get(registry, getCredentials);
    const isOfficial = upstream.name === DOCKER_HUB && !repository.includes('/');
    const full = parseRepository(isOfficial ? `library/${repository}` : repository);
    // Even if some of it is stored.
    if (!upstream.allows(full)) throw notAllowed(upstream.name, full);
    return { registry: registries.ofUpstream(upstream, locateName), repository: full };
  }

  /** A configured host always means that upstream. */
  function isOwn(registry: string): boolean {
    return ownHosts.has(registry) && !upstreams.has(registry);
  }

  function findNamed(name: string, getCredentials?: GetCredentials): Origin | undefined {
    for (const prefix of registries.hosted) {
      if (name.startsWith(`${prefix}/`)) return locate(prefix, name.slice(prefix.length + 1));
    }
    const [first = '', ...rest] = name.split('/');
    return rest.length > 0 && upstreams.has(first) ? locate(first, rest.join('/'), getCredentials) : undefined;
  }

  function locateAlias(name: string, getCredentials?: GetCredentials): Origin {
    const named = findNamed(name, getCredentials);
    if (named) return named;
    // Otherwise an upstream would learn a token.
    if (name.startsWith('wt/')) {
      throw new RegistryError(
        'NAME_UNKNOWN',
        'names under wt/ are reserved for tokens: use the name of the source image',
      );
    }
    if (defaultUpstream === 'none') {
      throw new RegistryError(
        'NAME_UNKNOWN',
        `"${name}" has no registry, and there is no default upstream: use <registry>/${name}`,
      );
    }
    return locate(defaultUpstream, parseRepository(name), getCredentials);
  }

  function locateName(name: string, getCredentials?: GetCredentials): Origin {
    const { first, rest } = splitName(name);
    return isRegistryHost(first) ? locate(first, rest, getCredentials) : locateAlias(name, getCredentials);
  }

  function locateIn(namespace: string, name: string, getCredentials?: GetCredentials): Origin {
    if (isOwn(namespace)) return locateName(name, getCredentials);
    const { name: registry } = findUpstream(upstreams, namespace);
    const { first, rest } = splitName(name);
    // A mirror at a path of ours, such as /v2/quay.io, is asked for quay.io/org/app with the namespace as well.
    const isRepeated = isRegistryHost(first) && normalizeName(first) === registry;
    return locateUpstream(registry, isRepeated ? rest : name, getCredentials);
  }

  return { locate, locateIn, isOwn, findNamed, locateName };
}

function splitName(name: string): { readonly first: string; readonly rest: string } {
  const slash = name.indexOf('/');
  return { first: name.slice(0, Math.max(slash, 0)), rest: name.slice(slash + 1) };
}

/** A client that names a registry gets the same answer for a closed one as for an unknown one. */
function findUpstream(upstreams: Upstreams, namespace: string): Upstream {
  try {
    return upstreams.get(namespace);
  } catch (cause) {
    if (!(cause instanceof RegistryError)) throw cause;
    throw new RegistryError('NAME_UNKNOWN', `ns is "${namespace}": ${cause.message}`, { cause });
  }
}

function notAllowed(name: string, repository: string): RegistryError {
  const reason = `the entry "${name}" of upstreams does not allow pulling it (allow, deny)`;
  return new RegistryError('DENIED', `${name}/${repository}: ${reason}`);
}

/** The current target of a reference. Throws the registry's error. */
export async function resolveReference(
  { registry, repository }: Origin,
  { digest, tag }: Reference,
  options: CallOptions = {},
): Promise<Digest> {
  return digest ?? registry.resolveTag(repository, tag ?? 'latest', options);
}

/** The full name of the repository: registry/repository. */
export function originName({ registry, repository }: Origin): string {
  return `${registry.name}/${repository}`;
}

/** The name of an image, for display and for provenance: registry/repository[:tag]. */
export function imageName(origin: Origin, tag: string | undefined): string {
  return tag === undefined ? originName(origin) : `${originName(origin)}:${tag}`;
}
