// What an image of a repository is called by clients.
import { isRegistryHost } from '../oci/reference.ts';
import type { Origins } from '../pull/origin.ts';

/**
 * `image` is the full name with its tag. What is hosted here is on our own host, and so is what an alias names: only we know that name.
 * Without a host it is the full name.
 */
export function imageAddress(image: string, origins: Pick<Origins, 'locateName'>, host: string | undefined): string {
  const repository = image.slice(0, image.lastIndexOf(':'));
  const isElsewhere = isRegistryHost(repository.slice(0, repository.indexOf('/')));
  const isNamed = isElsewhere && !origins.locateName(repository).registry.isHosted;
  return isNamed || host === undefined ? image : `${host}/${image}`;
}
