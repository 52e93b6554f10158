// The host that clients reach us by: what images to pull are named after.
import { isRegistryHost } from '../../oci/reference.ts';
import type { Origins } from '../../pull/origin.ts';
import { ApiError } from '../../submit/errors.ts';

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?$/;

/** The host of `publicUrl`, else the request's own where it is loopback: any other Host header is only a client's claim. */
export function findPublicHost(publicUrl: string | undefined, host: string | undefined): string | undefined {
  if (publicUrl) return new URL(publicUrl).host;
  return host && LOOPBACK.test(host) ? host : undefined;
}

/** The same where an image has to be named after it. Throws ApiError. */
export function publicHost(publicUrl: string | undefined, host: string | undefined): string {
  const found = findPublicHost(publicUrl, host);
  if (found) return found;
  throw new ApiError(400, 'images have no address to be pulled from: set publicUrl in veneer.yaml');
}

// What an image of a repository is called by clients.

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
