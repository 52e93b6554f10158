// Source rights: the augment API reads images on behalf of its caller, and must not expose what the caller could not pull.
import type { Access, Caller } from '../access/access.ts';
import { RegistryError } from '../oci/errors.ts';
import { type Origin, type Origins, originName } from '../pull/origin.ts';
import type { NamedRepository } from './changes.ts';

/** Throws UNAUTHORIZED or DENIED unless the caller may pull from each of the repositories. */
export type RequireSources = (caller: Caller, repositories: readonly NamedRepository[]) => void;

export function createSourceRights({
  origins,
  access,
}: {
  readonly origins: Pick<Origins, 'locate'>;
  readonly access: Pick<Access, 'requireRight'>;
}): RequireSources {
  /** Undefined for an unknown name: reading from it reports the error. */
  function findOrigin({ registry, repository }: NamedRepository): Origin | undefined {
    try {
      return origins.locate(registry, repository);
    } catch (error) {
      if (error instanceof RegistryError) return undefined;
      throw error;
    }
  }

  return (caller, repositories) => {
    for (const named of repositories) {
      const origin = findOrigin(named);
      if (origin) access.requireRight(caller, 'pull', originName(origin));
    }
  };
}
