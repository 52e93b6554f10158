// Origins: which repository of which upstream a name means.
import { RegistryError } from '../oci/errors.ts';
import { isRegistryHost, parseRepository } from '../oci/reference.ts';
import type { Upstream, Upstreams } from '../upstream/upstream.ts';

/** Where content comes from, and under which it may be read again: what one repository holds is no other's. */
export interface Origin {
  readonly upstream: Upstream;
  readonly repository: string;
}

export interface Origins {
  /** The origin of a name in a path: its first component is a registry's host or an alias, else the default upstream's. */
  locateName(name: string): Origin;
  /** The origin of a parsed reference. Both throw NAME_INVALID, or DENIED for a registry that the configuration closes. */
  locate(registry: string | undefined, repository: string): Origin;
}

export const DOCKER_HUB = 'docker.io';

export function createOrigins(options: { readonly upstreams: Upstreams; readonly defaultUpstream: string }): Origins {
  const { upstreams, defaultUpstream } = options;

  function locate(registry: string | undefined, repository: string): Origin {
    if (registry === undefined) return locateAlias(repository);
    const upstream = upstreams.get(registry);
    const isOfficial = upstream.name === DOCKER_HUB && !repository.includes('/');
    return { upstream, repository: parseRepository(isOfficial ? `library/${repository}` : repository) };
  }

  function locateAlias(name: string): Origin {
    const [first = '', ...rest] = name.split('/');
    if (rest.length > 0 && upstreams.has(first)) return locate(first, rest.join('/'));
    if (defaultUpstream === 'none') {
      throw new RegistryError(
        'NAME_UNKNOWN',
        `"${name}" names no registry and there is no default upstream: write <registry>/${name}`,
      );
    }
    return locate(defaultUpstream, parseRepository(name));
  }

  return {
    locate,
    locateName(name) {
      const slash = name.indexOf('/');
      const first = name.slice(0, Math.max(slash, 0));
      return isRegistryHost(first) ? locate(first, name.slice(slash + 1)) : locateAlias(name);
    },
  };
}

/** One key for all that belongs to this repository. */
export function originKey(origin: Origin): string {
  return `${origin.upstream.name}/${origin.repository}`;
}
